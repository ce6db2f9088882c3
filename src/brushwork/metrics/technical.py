"""Is anything wrong with the pictures? Flat ones, clipped pixels, and how sharp they are; no network is asked.

``blank`` is the share of pictures of one colour, which is also what NaN is saved as (brushwork's own drawing stops at
NaN). ``clipped`` is the share of pixels with a channel at 0 or 255, ``sharpness`` the variance of the Laplacian: of an
ink drawing both are high, so they are read against the training pictures' (``data``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, estimate, paired

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "technical"
KINDS = (Kind("blank", "1", "lower"), Kind("clipped", "1", "closer"), Kind("sharpness", "1", "closer"))
KIND = KINDS[0]
ASKS = "pictures"
FLAT = 1 / 255
"""A picture whose values vary less than this (standard deviation) is of one colour."""


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired differences, and the training pictures."""
    results = []
    for kind in KINDS:
        results += paired(kind, drawn, *(_values(kind.name, side) for side in (drawn.base, drawn.tuned)))
        if drawn.references is not None:
            known = _values(kind.name, drawn.references)[:, None]
            results.append(drawn.result(kind, "data", estimate(known, drawn.seed)))
    return results


def _values(name: str, features: Array) -> Array:
    """Return one of the three from the encoder's (..., 3): clipped, spread, sharpness."""
    if name == "blank":
        flat: Array = (features[..., 1] < FLAT).astype(np.float64)
        return flat
    return features[..., 0 if name == "clipped" else 2]
