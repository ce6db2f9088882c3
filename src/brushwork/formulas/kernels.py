"""Distances of two sets of features by kernels (maximum mean discrepancy): KID and CMMD.

Both compare the mean of k(x, x'), k(y, y') and k(x, y). The matrices of kernels are summed in blocks and never held, so
memory does not grow with the product of the two sizes, and all pictures are used at once: no random subsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import blocks, same_shape, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Kernel = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

CMMD_SCALE = 1000.0
"""The published CMMD is the squared distance in thousandths."""


def kernel_distance(x: ArrayLike, y: ArrayLike, *, paired: bool = False) -> float:
    """Return the unbiased squared MMD with the kernel (x.y / d + 1)^3: KID (Binkowski et al. 2018, arXiv:1801.01401).

    Its expectation is 0 for two samples of one distribution at any N, so it may be negative; it is not clipped. For the
    same array twice it is negative, not 0: in k(x, y) every picture meets itself, in k(x, x') it does not. Libraries
    average it over random subsets of 1000; this is the value with all pictures, to which those averages tend.

    Args:
        x: Features (N, d).
        y: Features (M, d).
        paired: Row i of both belongs together (same prompt, same seed), so they are no independent samples: a picture
            and its partner are left out of the mean of k(x, y) as well (Gretton et al. 2012, JMLR 13, equation 4). The
            same array twice then gives exactly 0.

    Raises:
        UserError: Shapes that do not fit, fewer than two rows, or something that is not finite.
    """
    first, second = tables(x, y, least=2)
    if paired:
        same_shape(first, second, ("x", "y"))
    d = first.shape[1]

    def cubic(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        base = a @ b.T
        base /= d
        base += 1
        cube = base * base
        cube *= base
        return cube

    def others(a: NDArray[np.float64]) -> float:
        with_itself = (np.einsum("nd,nd->n", a, a) / d + 1) ** 3
        return (_own_sum(cubic, a) - float(with_itself.sum())) / (len(a) * (len(a) - 1))

    if not paired:
        return others(first) + others(second) - 2 * _sum(cubic, first, second) / (len(first) * len(second))
    if np.array_equal(first, second):
        return 0.0
    partners = float(((np.einsum("nd,nd->n", first, second) / d + 1) ** 3).sum())
    across = (_sum(cubic, first, second) - partners) / (len(first) * (len(first) - 1))
    return others(first) + others(second) - 2 * across


def cmmd(x: ArrayLike, y: ArrayLike, sigma: float = 10.0) -> float:
    """Return 1000 x the biased squared MMD with the kernel exp(-|x - y|^2 / (2 sigma^2)): CMMD.

    Jayasumana et al. 2024 (arXiv:2401.09603). The paper writes the unbiased estimator; its code, and so every published
    number, has the biased one, with each picture's kernel with itself in the means. Sigma is meant for unit vectors of
    CLIP ViT-L/14-336; features are taken as they are. Never negative; equal arrays give exactly 0.

    Raises:
        UserError: Shapes that do not fit, a sigma that is not positive, or something that is not finite.
    """
    first, second = tables(x, y)
    if not sigma > 0:
        message = f"sigma is the width of the kernel and must be positive, but is {sigma}."
        raise UserError(message)
    if np.array_equal(first, second):
        return 0.0
    centre = first.mean(axis=0)  # distances do not change, and small ones lose fewer digits

    def gaussian(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        exponent = squared_distances(a, b)
        exponent /= -2 * sigma * sigma
        # Less 1, which cancels in the distance: for unit vectors the kernel lies in [0.98, 1].
        return np.expm1(exponent, out=exponent)

    one, other = first - centre, second - centre
    own = [_own_sum(gaussian, each) / len(each) ** 2 for each in (one, other)]
    return max(0.0, CMMD_SCALE * (sum(own) - 2 * _sum(gaussian, one, other) / (len(one) * len(other))))


def squared_distances(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |x_i - y_j|^2 (N, M) by |x|^2 + |y|^2 - 2 x.y; what rounding cannot tell from 0 is 0."""
    sizes = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("md,md->m", y, y)[None]
    squared: NDArray[np.float64] = x @ y.T
    squared *= -2
    squared += sizes
    sizes *= 4 * np.finfo(np.float64).eps * np.sqrt(x.shape[1])
    squared[squared < sizes] = 0.0
    return squared


def _sum(kernel: Kernel, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return sum(float(kernel(x[rows], y).sum()) for rows in blocks(len(x), len(y)))


def _own_sum(kernel: Kernel, x: NDArray[np.float64]) -> float:
    """Return the sum over all pairs of rows, both ways and with themselves; the lower half is that of the upper."""
    total = 0.0
    for rows in blocks(len(x), len(x)):
        block = kernel(x[rows], x[rows.start :])
        total += 2 * float(block.sum()) - float(block[:, : rows.stop - rows.start].sum())
    return total
