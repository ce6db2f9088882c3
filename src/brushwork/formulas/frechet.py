"""The Frechet distance of two sets of features, taken as Gaussians: FID with Inception, FD with any other encoder.

    |mu1 - mu2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)        (Heusel et al. 2017, arXiv:1706.08500, equation 6)

The last trace is usually taken from a matrix square root of C1 C2, a product that is not symmetric and, with fewer
pictures than dimensions, singular: there the root has imaginary parts and loses half of all digits. Here each
covariance is written as F^T F. The eigenvalues of C1 C2 are then the squared singular values of F1 F2^T, so the trace
is the sum of those singular values, for any rank, without a root and without forming a covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import blocks, finite, tables

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SYMMETRIC = 1e-6
"""A covariance may differ from its transpose by this share of its largest entry: it may have been stored in float32."""


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Return the Frechet distance of features (N, d) and (M, d); covariances divide by N - 1 (ddof 1).

    Works for N and M below d, where the value is defined but its bias is large: of two samples of one distribution it
    grows about as 1 / N. Equal arrays give exactly 0.

    Raises:
        UserError: Shapes that do not fit, fewer than two rows, or something that is not finite.
    """
    first, second = tables(x, y, least=2)
    if np.array_equal(first, second):
        return 0.0
    means = first.mean(axis=0), second.mean(axis=0)
    return _distance(means[0] - means[1], _factor(first, means[0]), _factor(second, means[1]))


def frechet_distance_from_statistics(mu1: ArrayLike, cov1: ArrayLike, mu2: ArrayLike, cov2: ArrayLike) -> float:
    """Return the same from means (d,) and covariances (d, d), which may be singular.

    From stored covariances about half the digits of small variances are lost already; use ``frechet_distance`` where
    the features are at hand.

    Raises:
        UserError: Shapes that do not fit, a covariance that is not symmetric or has negative variances.
    """
    means = finite(mu1, "mu1"), finite(mu2, "mu2")
    covariances = finite(cov1, "cov1"), finite(cov2, "cov2")
    shapes = [each.shape for each in (*means, *covariances)]
    d = len(means[0]) if means[0].ndim == 1 else 0
    if shapes != [(d,), (d,), (d, d), (d, d)] or d == 0:
        message = f"mu1, mu2, cov1, cov2: the shapes must be (d,), (d,), (d, d), (d, d), but are {shapes}."
        raise UserError(message)
    if np.array_equal(means[0], means[1]) and np.array_equal(covariances[0], covariances[1]):
        return 0.0
    factors = [_root(each, name) for each, name in zip(covariances, ("cov1", "cov2"), strict=True)]
    return _distance(means[0] - means[1], *factors)


def _distance(shift: NDArray[np.float64], f1: NDArray[np.float64], f2: NDArray[np.float64]) -> float:
    """Return the distance of Gaussians with covariances F1^T F1 and F2^T F2; f1 (r1, d), f2 (r2, d)."""
    cross = np.linalg.svd(f1 @ f2.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (f1 * f1).sum() + (f2 * f2).sum() - 2 * cross))


def _factor(x: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F (min(N, d), d) with F^T F = cov(x): the centred rows, or their R of QR, made in blocks, when N > d."""
    n, d = x.shape
    factor: NDArray[np.float64] = x - mean if n <= d else np.empty((0, d))
    for rows in blocks(n, d) if n > d else ():
        reduced: Any = np.linalg.qr(np.concatenate([factor, x[rows] - mean]), mode="r")
        factor = reduced
    factor /= np.sqrt(n - 1)
    return factor


def _root(covariance: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return F (d, d) with F^T F = covariance; variances below rounding count as none."""
    largest = float(np.abs(covariance).max())
    if np.abs(covariance - covariance.T).max() > SYMMETRIC * largest:
        message = f"{name} is not symmetric, so it is no covariance."
        raise UserError(message)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values[0] < -SYMMETRIC * max(largest, values[-1]):
        message = f"{name} has the negative variance {values[0]:.3g} along some direction, so it is no covariance."
        raise UserError(message)
    rounding = len(values) * np.finfo(np.float64).eps * values[-1]
    values[values < rounding] = 0.0
    root: NDArray[np.float64] = np.sqrt(values)[:, None] * vectors.T
    return root
