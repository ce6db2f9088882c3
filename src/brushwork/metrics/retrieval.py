"""Does a picture find its own prompt among all of them? Gap, top-1 (R-precision) and mean reciprocal rank.

From the matrix of cosines of every picture with every prompt, whose means over seeds are in the details. A model that
draws one picture for all prompts has no gap and a top-1 of 1 / P, however high its CLIP-T may be. P decides how hard it
is: compare equal sets of prompts only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.similarity import similarity_matrix, summarise_similarity
from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from brushwork.metrics import Drawn, Result

NEEDS = "clip"
KINDS = (Kind("gap", "1", "higher"), Kind("top1", "1", "higher"), Kind("mrr", "1", "higher"))
KIND = KINDS[0]
ASKS = "at least two prompts"
MOST_SHOWN = 64
"""Prompts up to which the matrix itself is kept."""


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired differences; nothing for a single prompt."""
    prompts, seeds, width = drawn.base.shape
    if drawn.texts is None or prompts == 1:
        return []
    tables = [similarity_matrix(side.reshape(-1, width), drawn.texts) for side in (drawn.base, drawn.tuned)]
    by_picture = [_of_pictures(each, seeds) for each in tables]
    results = []
    for place, kind in enumerate(KINDS):
        before, after, change = paired(kind, drawn, *(each[place] for each in by_picture))
        if not place and prompts <= MOST_SHOWN:
            matrices = [each.reshape(prompts, seeds, prompts).mean(axis=1).round(5).tolist() for each in tables]
            diagonals = [summarise_similarity(each).diagonal for each in tables]
            before, after = (
                replace(result, details={"diagonal": diagonal, "matrix": matrix})
                for result, diagonal, matrix in zip((before, after), diagonals, matrices, strict=True)
            )
        results += [before, after, change]
    return results


def _of_pictures(matrix: NDArray[np.float64], seeds: int) -> NDArray[np.float64]:
    """Return gap, top-1 and reciprocal rank of each picture: (3, P, N); their means are those of the whole matrix."""
    rows = [summarise_similarity(row[None], [place // seeds]) for place, row in enumerate(matrix)]
    values = np.array([(each.gap, each.top1, each.mrr) for each in rows])
    return values.T.reshape(3, -1, seeds)
