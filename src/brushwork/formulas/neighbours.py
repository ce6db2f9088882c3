"""Precision and recall, density and coverage: do the drawn lie where the real do, and everywhere where they do?

Around each picture lies a ball that reaches to its k-th nearest neighbour in its own set. Distances are made in blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import blocks, table, tables
from brushwork.formulas.kernels import squared_distances

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class RealBalls:
    """The balls around a set of real pictures, made once and held against any number of drawn sets.

    Raises:
        UserError: k below 1, or not more than k pictures.
    """

    def __init__(self, real: ArrayLike, k: int = 5) -> None:
        if k < 1:
            message = f"k is a number of neighbours and must be at least 1, but is {k}."
            raise UserError(message)
        one = table(real, "real", least=k + 1)
        self.k, self.centre = k, one.mean(axis=0)
        self.real = one - self.centre
        self.reach = kth_squared_distance(self.real, k)

    def against(self, fake: ArrayLike) -> dict[str, float]:
        """Return ``precision``, ``recall``, ``density`` and ``coverage`` of features (M, d).

        Raises:
            UserError: Shapes that do not fit, or not more than k pictures.
        """
        _, other = tables(self.real, fake, ("real", "fake"), least=self.k + 1)
        other = other - self.centre
        reach = kth_squared_distance(other, self.k)
        balls: NDArray[np.int64] = np.zeros(len(other), np.int64)
        recalled = covered = 0
        for rows in blocks(len(self.real), len(other)):
            squared = squared_distances(self.real[rows], other)
            inside_real = squared < self.reach[rows, None]
            balls += inside_real.sum(axis=0)
            covered += int(inside_real.any(axis=1).sum())
            recalled += int((squared < reach).any(axis=1).sum())
        return {
            "precision": float((balls > 0).mean()),
            "recall": recalled / len(self.real),
            "density": float(balls.mean()) / self.k,
            "coverage": covered / len(self.real),
        }


def precision_recall_density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> dict[str, float]:
    """Return ``precision``, ``recall``, ``density`` and ``coverage`` of features (N, d) and (M, d).

    Precision is the share of drawn pictures inside some real one's ball, recall the share of real ones inside some
    drawn one's (Kynkaanniemi et al. 2019, arXiv:1904.06991). Density counts how many real balls each drawn picture lies
    in, divided by k, and may exceed 1; coverage is the share of real balls with a drawn picture in them (Naeem et al.
    2020, arXiv:2002.09797). Inside means strictly nearer than the k-th neighbour, which does not count the picture
    itself, as in the reference code of Naeem et al.

    Raises:
        UserError: Shapes that do not fit, k below 1, or not more than k pictures in a set.
    """
    return RealBalls(real, k).against(fake)


def kth_squared_distance(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the squared distance of each row of (N, d) to its k-th nearest other row: (N,); N > k."""
    found: NDArray[np.float64] = np.empty(len(x))
    for rows in blocks(len(x), len(x)):
        squared = squared_distances(x[rows], x)
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf
        found[rows] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return found
