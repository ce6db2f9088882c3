"""Checks of a picture that need no network: how much of it is clipped, how much it varies, how sharp it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.encoders import LUMINANCE_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from brushwork.encoders import Features, Serves

LEAST_SIDE = 3
"""Pixels that a Laplacian looks at."""


class Technical:
    """Three numbers for each picture.

    The share of pixels with a channel at 0 or 255; the standard deviation of all its values, in [0, 1] (0: one flat
    colour, which is also what a picture of NaN is saved as); the variance of the Laplacian of its luminance in [0, 1],
    at most about 256 pixels a side (Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548).
    """

    name, revision, preprocessing = "technical", "1", "grey-256"
    serves: tuple[Serves, ...] = ("technical",)
    references = 500

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, 3)."""
        return np.array([_checks(image.convert("RGB")) for image in images], np.float32)


def _checks(image: Image) -> tuple[float, float, float]:
    pixels = np.asarray(image)
    clipped = ((pixels == 0) | (pixels == 255)).any(axis=2).mean()  # noqa: PLR2004  (the ends of a byte)
    spread = pixels.reshape(-1, 3).std(axis=0).max() / 255
    grey = image.convert("L")
    smaller = np.asarray(grey.reduce(max(1, round(min(grey.size) / LUMINANCE_SIDE))), np.float64) / 255
    return float(clipped), float(spread), sharpness(smaller)


def sharpness(grey: np.ndarray) -> float:
    """Return the variance of the Laplacian (four neighbours) inside a picture (H, W); 0 below 3 pixels a side."""
    if min(grey.shape) < LEAST_SIDE:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())
