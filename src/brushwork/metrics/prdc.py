"""Precision, recall, density and coverage: do the pictures lie where the data lie, and everywhere where they do?

Balls to the fifth neighbour (arXiv:1904.06991, 2002.09797). High precision with low recall is a model that draws little
of what the data hold. The floor is what one half of the training pictures reaches against the other.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.floors import floor_draws, noise_floor
from brushwork.formulas.neighbours import RealBalls, precision_recall_density_coverage
from brushwork.metrics import Kind, of_sets

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KINDS = tuple(Kind(name, "1", "higher") for name in ("precision", "recall", "density", "coverage"))
KIND = KINDS[0]
NEIGHBOURS = 5
LEAST = 2 * (NEIGHBOURS + 1)
ASKS = f"target prompts, {LEAST // 2} pictures of each side and {LEAST} training pictures"


def measure(drawn: Drawn) -> list[Result]:
    """Measure the target prompts."""
    known, rows = drawn.references, drawn.base[..., 0].size
    if drawn.prompt_set != "target" or known is None or len(known) < LEAST or rows < LEAST // 2:
        return []
    size = max(NEIGHBOURS + 1, min(rows, len(known) // 2))
    splits, results = floor_draws(size, known.shape[1], most=10), []
    balls = RealBalls(known, NEIGHBOURS)

    @functools.cache  # the four numbers come of one look, and the exchanges of the test are the same for all four
    def of_side(stored: bytes) -> dict[str, float]:
        return balls.against(np.frombuffer(stored).reshape(-1, known.shape[1]))

    for kind in KINDS:

        def number(side: Array, part: str = kind.name) -> float:
            return of_side(side.astype(np.float64).tobytes())[part]

        def between(one: Array, other: Array, part: str = kind.name) -> float:
            return precision_recall_density_coverage(other, one, NEIGHBOURS)[part]

        floor = noise_floor(known, between, size=size, draws=splits, seed=drawn.seed)
        name = "precision_recall_density_coverage"
        results += of_sets(kind, drawn, number, floor, name, min(rows, len(known)))
    return results
