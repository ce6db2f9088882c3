"""Drift: how much prompts that have nothing to do with the data changed, in units of what another seed changes.

0 means that the tuned model draws them exactly as the base does; about 1 that its picture differs from the base's as
much as the base's own pictures at two seeds differ from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.arrays import unit
from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KIND = Kind("drift", "1", "lower")
ASKS = "control prompts, and at least two seeds for each that the base draws differently"


def cosine_distance(a: Array, b: Array) -> Array:
    """Return 1 - cos of unit vectors along the last axis.

    As half the squared difference, which is exactly 0 for equal vectors; 1 - a.b is only nearly so.
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    distances: Array = 0.5 * np.einsum("...d,...d->...", difference, difference)
    return distances


def seed_floor(images: Array) -> float:
    """Return the mean distance between pictures of the same prompt at different seeds; images (P, N, D), N >= 2."""
    first, second = np.triu_indices(images.shape[1], k=1)
    return float(cosine_distance(images[:, first], images[:, second]).mean())


def measure(drawn: Drawn) -> list[Result]:
    """Measure the control prompts; nothing without them, or with a single seed (no floor to compare with)."""
    several_seeds = drawn.base.shape[1] > 1
    if drawn.prompt_set != "control" or not several_seeds:
        return []
    base, tuned = (unit(side.astype(np.float64), "features") for side in (drawn.base, drawn.tuned))
    floor = seed_floor(base)
    distance = cosine_distance(base, tuned)
    if floor == 0 and distance.any():
        return []  # the base draws the same picture at every seed: there is no unit to measure in
    relative = distance / floor if floor else distance
    rows = [
        {"prompt": prompt, "drift": float(each)}
        for prompt, each in zip(drawn.prompts, relative.mean(axis=1), strict=True)
    ]
    measured = estimate(relative, drawn.seed)
    return [drawn.result(KIND, "ratio", measured, seed_floor=floor, distance=float(distance.mean()), prompts=rows)]
