"""Pictures as a network's image processor prepares them, bit for bit, a batch at a time.

    prepare = Prepared(clip.processor)
    prepare(pictures)                       # (N, 3, h, w) float32, equal to the processor's pixel_values

Resizing and cropping are the processor's own, on bytes. A byte has 256 values, so what follows, rescaling and
normalising, is a table that the processor fills once, and not arithmetic on each pixel of each picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

LEVELS = 256
NEEDED = ("do_rescale", "do_normalize")


class Prepared:
    """What a CLIP or SigLIP processor with the backend of Pillow does."""

    def __init__(self, processor: Any) -> None:
        """Fill the table; without rescaling or normalising there is none, and the processor does all."""
        self.processor, self.table = processor, None
        if all(getattr(processor, each, False) for each in NEEDED):
            bytes_ = np.tile(np.arange(LEVELS, dtype=np.uint8), (3, 1, 1))
            scaled = processor.rescale(bytes_, processor.rescale_factor)
            self.table = processor.normalize(scaled, processor.image_mean, processor.image_std)[:, 0]

    def __call__(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return (N, 3, h, w); pictures of any mode and size, if the processor makes them equally large."""
        rgb = [image if image.mode == "RGB" else image.convert("RGB") for image in images]
        if self.table is None:
            found: NDArray[np.float32] = self.processor(images=rgb, return_tensors="np")["pixel_values"]
            return found
        pixels = np.stack([self._sized(np.asarray(image).transpose(2, 0, 1)) for image in rgb])
        return np.stack([self.table[channel][pixels[:, channel]] for channel in range(3)], axis=1)

    def _sized(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return bytes (3, H, W) resized and cropped."""
        asked, (height, width) = self.processor, pixels.shape[1:]
        size, crop = asked.size, asked.crop_size
        if asked.do_resize and not _is(size, height, width):
            pixels = asked.resize(image=pixels, size=size, resample=asked.resample)
        if asked.do_center_crop and pixels.shape[1:] != (crop.height, crop.width):
            pixels = asked.center_crop(pixels, crop)
        return pixels


def _is(size: Any, height: int, width: int) -> bool:
    """Return whether a picture has the size that is asked for already."""
    if size.shortest_edge:
        return bool(min(height, width) == size.shortest_edge)
    return (height, width) == (size.height, size.width)
