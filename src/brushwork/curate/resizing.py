"""Smaller pictures with OpenCV: as near to Lanczos as a mean over areas or nearer, in a third of the time.

    decoded at 1 / reduction(shorter, size)  ->  resize(pixels, width, height)  ->  means(pixels, 32)

OpenCV has no filter for shrinking that is both quick and good: ``INTER_AREA`` is slow unless it shrinks by a whole
number, and the others look at the pixels around a point only, however many there are in between. Between 1.5 and 2
times the size wanted a picture is therefore smoothed first, until nothing is in it that the small one cannot show, and
more than that; then it is interpolated, and what is too dull is sharpened by an unsharp mask, at the small size.
``benchmarks/images.py`` measures the distance from Pillow's Lanczos on photographs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    """(H, W, 3), blue first, as OpenCV has it."""

LARGEST_REDUCTION = 8
CUBIC, LINEAR, HALVED = 1.25, 1.5, 2.0
"""Up to so many times the size wanted, interpolating comes nearest to Lanczos, or as near as another way and faster;
from there on a picture is smoothed first; and from twice the size on it is averaged."""
HALVES = 8
"""A picture is halved before its means are taken while each is over at least so many pixels a side."""
UNSHARP, LESS = 2.95, 1.25
"""The unsharp mask's weight is the first less the second times the ratio: near the best of each on photographs."""


def opencv() -> ModuleType:
    """Import OpenCV.

    Raises:
        UserError: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        message = "The fast image path needs OpenCV. Install it: pip install 'brushwork[data]'"
        raise UserError(message) from error
    return cv2


def reduction(shorter: int, size: int) -> int:
    """Return by how much a JPEG may be reduced while it is decoded and still be as large as wanted.

    >>> reduction(1024, 512), reduction(1023, 512), reduction(9000, 512)
    (2, 1, 8)
    """
    factor = 1
    while factor < LARGEST_REDUCTION and shorter >= 2 * factor * size:
        factor *= 2
    return factor


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Bring a picture (H, W, 3) to a size in pixels."""
    here = pixels.shape[:2]
    if here == (height, width):
        return pixels
    cv2 = opencv()
    times = min(here[0] / height, here[1] / width)
    if LINEAR < times < HALVED:
        return _smoothed(pixels, width, height, UNSHARP - LESS * times)
    way = cv2.INTER_CUBIC if times <= CUBIC else cv2.INTER_LINEAR if times <= LINEAR else cv2.INTER_AREA
    return cv2.resize(pixels, (width, height), interpolation=way)  # type: ignore[no-any-return]


def _smoothed(pixels: Pixels, width: int, height: int, weight: float) -> Pixels:
    """Smooth, interpolate, and sharpen what became dull."""
    cv2 = opencv()
    # OpenCV has quick code for the kernel (1, 2, 1) / 4 in both directions, which sigma 0 means at three pixels.
    small = cv2.resize(cv2.GaussianBlur(pixels, (3, 3), 0), (width, height), interpolation=cv2.INTER_LINEAR)
    dull = cv2.GaussianBlur(small, (3, 3), 0)
    return cv2.addWeighted(small, 1 + weight, dull, -weight, 0)  # type: ignore[no-any-return]


def means(pixels: Pixels, side: int) -> NDArray[np.uint8]:
    """Return the grey means over ``side`` x ``side`` equal areas, (side, side).

    A large picture is halved before: OpenCV is quick at that, and ten times slower at areas that end within pixels. An
    odd last row or column, one of 256 at most, is left out.
    """
    cv2 = opencv()
    grey: NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    while min(grey.shape) >= HALVES * side:
        height, width = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]
