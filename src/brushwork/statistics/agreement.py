"""Do raters agree with one another beyond chance?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas import arrays

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def fleiss_kappa(table: ArrayLike) -> float:
    """Return Fleiss' kappa of votes (subjects, categories): 1 is agreement, 0 what chance gives (Fleiss 1971).

    Each entry counts the raters who put the subject (a pair of pictures) into the category (left, tie, right). NaN when
    every vote ever given is the same: there chance explains everything and kappa is 0 / 0.

    Raises:
        UserError: Not a table of counts, or subjects with different numbers of raters, or fewer than two raters.
    """
    counts = arrays.table(table, "table")
    if counts.min() < 0 or (counts != np.round(counts)).any():
        message = "table: needs a row for each subject and a column for each category, all of them counts."
        raise UserError(message)
    raters = counts.sum(axis=1)
    if raters.min() != raters.max() or raters[0] < 2:  # noqa: PLR2004  (one rater agrees with nobody)
        message = (
            f"table: every subject needs the same number of raters, at least 2, but there are {raters.min():g} to "
            f"{raters.max():g}. Leave out the subjects that lack votes."
        )
        raise UserError(message)
    n = raters[0]
    agreement = ((counts * (counts - 1)).sum(axis=1) / (n * (n - 1))).mean()
    chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    return float((agreement - chance) / (1 - chance)) if chance < 1 else math.nan
