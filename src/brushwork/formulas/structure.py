"""SSIM, MS-SSIM and PSNR: how much a picture differs from the one that it is paired with, pixel by pixel.

They say how much changed, not how good it is, and nothing at all about pictures that are not pairs (same prompt, same
seed; before and after the VAE).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import finite, same_shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SIGMA, RADIUS = 1.5, 5
"""Wang et al.'s Gaussian window of 11 x 11 pixels."""

LEAST_SIDE = 2 * RADIUS + 1
"""Pixels of the window, and so of the smallest picture."""

K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Wang et al. 2003, from finest to coarsest."""

GREY, COLOUR = 2, 3
"""Axes of a picture without and with channels."""


def ssim(a: ArrayLike, b: ArrayLike, data_range: float = 1.0) -> float:
    """Return the structural similarity of two pictures (H, W) or (H, W, C); 1 when they are equal.

    Wang et al. 2004 (doi:10.1109/TIP.2003.819861): Gaussian window of sigma 1.5 cut off at 5 pixels, population
    covariance, K1 0.01 and K2 0.03, mean over the places where the window lies inside the picture. Channels are
    compared by themselves and averaged. scikit-image's ``structural_similarity`` gives it with ``gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False``; its defaults (a flat 7 x 7 window, sample covariance) give another number.

    Args:
        a: A picture.
        b: The other, of the same shape.
        data_range: The largest minus the smallest possible value: 1 for floats in [0, 1], 255 for bytes.

    Raises:
        UserError: Shapes that differ, sides below 11 pixels, or bytes with a data range of 1.
    """
    return float(ssim_of_planes(*_planes(a, b, data_range), data_range).mean())


def ssim_of_planes(a: NDArray[np.float64], b: NDArray[np.float64], data_range: float = 1.0) -> NDArray[np.float64]:
    """Return the SSIM (...) of each pair of grey planes (..., H, W), all at once."""
    same_shape(a, b, ("a", "b"))
    if min(a.shape[-2:]) < LEAST_SIDE:
        height, width = a.shape[-2:]
        message = f"SSIM looks through a window of 11 x 11 pixels, but the picture has {width} x {height}."
        raise UserError(message)
    structure, luminance = _maps(a, b, data_range)
    values: NDArray[np.float64] = (structure * luminance).mean(axis=(-2, -1))
    return values


def ms_ssim(a: ArrayLike, b: ArrayLike, data_range: float = 1.0) -> float:
    """Return the multi-scale SSIM of two pictures (H, W) or (H, W, C) of at least 176 pixels a side.

    Wang, Simoncelli and Bovik 2003 (doi:10.1109/ACSSC.2003.1292216): contrast and structure at five scales, luminance
    at the coarsest, each to the power of its weight; between scales 2 x 2 pixels are averaged. Negative structure
    counts as 0. Channels are compared by themselves and averaged.

    Raises:
        UserError: Shapes that differ, or pictures too small for five scales (use ``ssim``).
    """
    one, other = _planes(a, b, data_range)
    least = LEAST_SIDE * 2 ** (len(SCALE_WEIGHTS) - 1)
    height, width = one.shape[-2:]
    if min(height, width) < least:
        message = f"MS-SSIM needs {least} x {least} pixels for its five scales, but the picture has {width} x {height}."
        raise UserError(message)
    product = np.ones(len(one))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        structure, luminance = _maps(one, other, data_range)
        last = scale == len(SCALE_WEIGHTS) - 1
        value = (structure * luminance if last else structure).mean(axis=(-2, -1))
        product *= np.maximum(value, 0.0) ** weight
        if not last:
            one, other = _halved(one), _halved(other)
    return float(product.mean())


def psnr(a: ArrayLike, b: ArrayLike, data_range: float = 1.0) -> float:
    """Return 10 log10(data_range^2 / mean squared error) in dB over all pixels and channels; infinite when equal.

    Raises:
        UserError: Shapes that differ, or bytes with a data range of 1.
    """
    one, other = _planes(a, b, data_range)
    error = float(((one - other) ** 2).mean())
    return 10 * math.log10(data_range**2 / error) if error else math.inf


def _planes(a: ArrayLike, b: ArrayLike, data_range: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both pictures as (C, H, W)."""
    if not data_range > 0:
        message = f"data_range must be positive, but is {data_range}."
        raise UserError(message)
    both = []
    for values, name in ((a, "a"), (b, "b")):
        given = np.asarray(values)
        if given.dtype.kind in "iu" and given.size and given.max() > data_range:
            message = f"{name} holds whole numbers up to {given.max()}, more than data_range={data_range}: pass 255."
            raise UserError(message)
        plane = finite(given, name)
        if plane.ndim not in (GREY, COLOUR) or plane.size == 0:
            message = f"{name}: a picture is (H, W) or (H, W, C), but the shape is {plane.shape}."
            raise UserError(message)
        both.append(plane[None] if plane.ndim == GREY else np.moveaxis(plane, -1, 0))
    same_shape(both[0], both[1], ("a", "b"))
    return both[0], both[1]


def _maps(
    a: NDArray[np.float64], b: NDArray[np.float64], data_range: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return contrast-and-structure, and luminance, at every place (..., H - 10, W - 10)."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a = _smooth(a * a) - mean_a * mean_a
    variance_b = _smooth(b * b) - mean_b * mean_b
    covariance = _smooth(a * b) - mean_a * mean_b
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    return structure, luminance


def _smooth(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian mean (..., H - 10, W - 10) of the window around each place where it lies inside."""
    window = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    window /= window.sum()
    height, width = planes.shape[-2] - 2 * RADIUS, planes.shape[-1] - 2 * RADIUS
    down = sum(weight * planes[..., place : place + height, :] for place, weight in enumerate(window))
    across: NDArray[np.float64] = sum(weight * down[..., place : place + width] for place, weight in enumerate(window))
    return across


def _halved(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = planes.shape[-2] // 2 * 2, planes.shape[-1] // 2 * 2
    even = planes[..., :height, :width]
    quarter: NDArray[np.float64] = (
        even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]
    ) / 4
    return quarter
