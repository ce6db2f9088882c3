"""How different are pictures from one another? Both numbers are of one set and compare only at equal N."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.arrays import table, unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def vendi_score(features: ArrayLike) -> float:
    """Return the effective number of different pictures, in [1, N]: Friedman and Dieng 2022, arXiv:2210.02410.

    exp of the entropy of the eigenvalues of K / N, where K is the matrix of cosines of the features (N, d). It can be
    no larger than N (or d), so it grows with the number of pictures.

    Raises:
        UserError: A wrong shape, a row of zeros, or something that is not finite.
    """
    vectors = unit(table(features, "features"), "features")
    n, d = vectors.shape
    # F F^T and F^T F have the same eigenvalues beside zeros; the smaller one is taken.
    gram = (vectors @ vectors.T if n <= d else vectors.T @ vectors) / n
    shares = np.linalg.eigvalsh(gram)
    shares = shares[shares > np.finfo(np.float64).eps * n]
    shares /= shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def pairwise_diversity(features: ArrayLike) -> float:
    """Return 1 - the mean cosine over all pairs of different pictures (N, d), N >= 2; 0 when all are equal.

    Computed as the total variance of the unit vectors (ddof 1), which is the same and exactly 0 for equal pictures.

    Raises:
        UserError: A wrong shape, fewer than two rows, a row of zeros, or something that is not finite.
    """
    vectors = unit(table(features, "features", least=2), "features")
    return float((vectors - vectors[0]).var(axis=0, ddof=1).sum())
