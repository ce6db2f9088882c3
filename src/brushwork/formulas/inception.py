"""The Inception Score: are single pictures recognisable, and are all of them together varied?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SUMS_TO_ONE = 1e-3
"""Rows of probabilities may miss 1 by this much: a softmax in half precision."""


class InceptionScore(NamedTuple):
    """Mean and standard deviation (of the population, ddof 0) over the splits."""

    mean: float
    std: float


def inception_score(probabilities: ArrayLike, splits: int = 1) -> InceptionScore:
    """Return exp E_x KL(p(y|x) || p(y)) of class probabilities (N, K): Salimans et al. 2016, arXiv:1606.03498.

    Between 1 and K. The rows are cut into ``splits`` consecutive parts, as they come: nothing is shuffled. With one
    split the standard deviation is 0.

    Raises:
        UserError: Rows that are no probabilities (logits, say), or more splits than rows.
    """
    p = table(probabilities, "probabilities")
    n = len(p)
    if not 1 <= splits <= n:
        message = f"splits must lie between 1 and the number of pictures, {n}, but is {splits}."
        raise UserError(message)
    off = np.abs(p.sum(axis=1) - 1)
    if p.min() < 0 or off.max() > SUMS_TO_ONE:
        message = (
            f"probabilities: row {int(np.argmax(off))} sums to {p[np.argmax(off)].sum():.4g} and the smallest entry is "
            f"{p.min():.4g}; rows must be probabilities of classes. Logits need a softmax first."
        )
        raise UserError(message)
    scores = [_score(p[part * n // splits : (part + 1) * n // splits]) for part in range(splits)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(p: NDArray[np.float64]) -> float:
    marginal = np.broadcast_to(p.mean(axis=0), p.shape)
    ratio = np.divide(p, marginal, out=np.ones_like(p), where=p > 0)  # 0 log 0 = 0
    return float(np.exp((p * np.log(ratio)).sum(axis=1).mean()))
