"""Change: how far base and tuned pictures are apart, pixel by pixel, in units of what another seed changes.

No judge is asked, so no loss can have flattered it: 0 means that training changed nothing, about 1 that the tuned
picture is as far from the base's as the base's own pictures at two seeds are from each other. It says how much, not
what for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "pixels"
KIND = Kind("change", "1", "lower")
ASKS = "at least two seeds for each prompt that the base draws differently"


def root_mean_square(a: Array, b: Array) -> Array:
    """Return the root of the mean squared difference along the last axis."""
    distance: Array = np.sqrt(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2, axis=-1))
    return distance


def measure(drawn: Drawn) -> list[Result]:
    """Measure a set of prompts; nothing with a single seed, which has no unit to measure in."""
    first, second = np.triu_indices(drawn.base.shape[1], k=1)
    floor = float(root_mean_square(drawn.base[:, first], drawn.base[:, second]).mean()) if len(first) else 0.0
    if not floor:
        return []
    distance = root_mean_square(drawn.base, drawn.tuned)
    relative = distance / floor
    rows = [
        {"prompt": prompt, "change": float(each)}
        for prompt, each in zip(drawn.prompts, relative.mean(axis=1), strict=True)
    ]
    details = {"seed_floor": floor, "distance": float(distance.mean()), "prompts": rows}
    return [drawn.result(KIND, "ratio", estimate(relative, drawn.seed), **details)]
