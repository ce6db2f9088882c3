"""The Inception Score: are single pictures recognisable, and are all together varied? arXiv:1606.03498.

It sees the classes of its network only, ImageNet's as a rule: for a style it means little, and it is blind to copies.
One split, nothing shuffled. ``classifier:`` networks give it too; only Inception's compare with published ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.floors import floor_draws, noise_floor
from brushwork.formulas.inception import inception_score
from brushwork.metrics import Kind, of_sets

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "classes"
KIND = Kind("inception", "1", "higher")
ASKS = "at least four pictures of each side"
LEAST = 4


def score(probabilities: Array) -> float:
    """Return the score of (N, K)."""
    return inception_score(probabilities).mean


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and their difference; the floor is what two halves of the base's pictures differ by."""
    rows = drawn.base[..., 0].size
    if rows < LEAST:
        return []
    flat = drawn.base.reshape(rows, -1)
    floor = noise_floor(
        flat,
        lambda one, other: abs(score(one) - score(other)),
        draws=floor_draws(rows // 2, flat.shape[1]),
        seed=drawn.seed,
    )
    return of_sets(KIND, drawn, score, floor, "inception_score", rows)
