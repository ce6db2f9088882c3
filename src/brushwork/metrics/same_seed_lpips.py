"""How different base and tuned look to a network, at the same seed: LPIPS (arXiv:1801.03924), 0 is unchanged.

Two seeds of the base, in the details, show what unrelated pictures of one prompt reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "lpips"
KIND = Kind("same_seed_lpips", "1", "lower")
ASKS = "the extractor lpips:alex"


def distance(a: Array, b: Array) -> Array:
    """Return the squared distance of features (..., D), which is LPIPS."""
    squared: Array = np.square(a.astype(np.float64) - b).sum(axis=-1)
    return squared


def measure(drawn: Drawn) -> list[Result]:
    """Measure the pairs."""
    values = distance(drawn.base, drawn.tuned)
    several = drawn.base.shape[1] > 1
    other_seed = float(distance(drawn.base[:, :-1], drawn.base[:, 1:]).mean()) if several else None
    return [drawn.result(KIND, "pairs", estimate(values, drawn.seed), other_seed=other_seed)]
