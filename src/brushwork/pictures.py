"""Pictures by index, as the loop wants them: cropped to a square or to their bucket, as pixels or as cached latents.

pictures = Pictures(data, settings, store=None, dtype="float32", unit=8)
pictures.pixels(0, flip=False)              # (3, H, W) in [-1, 1]
pictures.size(0)                            # (W, H)
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from brushwork import buckets, images
from brushwork.cache import content_key
from brushwork.errors import DataError, listing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from brushwork.cache import TensorStore
    from brushwork.encoding import Data
    from brushwork.sources import ImageSettings


class Pictures:
    """Pictures by index, as pixels or as cached moments. Holds no model, so loader workers can have it."""

    def __init__(
        self,
        data: Data,
        settings: ImageSettings,
        store: TensorStore | None,
        dtype: str,
        unit: int,
        *,
        tells_geometry: bool = False,
    ) -> None:
        assert settings.resolution is not None, "train.prepare fills it in"
        self.data, self.settings, self.store, self.dtype, self.unit = data, settings, store, dtype, unit
        self.tells_geometry = tells_geometry
        self.resolution = settings.resolution
        square = (self.resolution, self.resolution)
        self.shapes: list[tuple[int, int]] = [square]
        self.shape_of: NDArray[np.int16] | None = None
        if settings.buckets:
            self.shapes, self.shape_of = _shapes(data, settings, unit)

    @property
    def sides(self) -> dict[str, bool]:
        """The pictures of a sample: what their tensors' names begin with, and whether it is the rejected one."""
        return {"": False, "rejected_": True} if self.data.rejected else {"": False}

    def key(self, index: int, *, flip: bool, rejected: bool = False) -> str:
        """Return the key of a picture's latents: its bytes, the geometry, the background, the type."""
        digests = self.data.rejected if rejected else self.data.digests
        width, height = self.size(index)
        extent = width if width == height else f"{width}x{height}"
        return content_key(digests[index], extent, "centre", flip, self.settings.background, self.dtype)

    def size(self, index: int) -> tuple[int, int]:
        """Return the width and height in pixels that a picture is brought to."""
        return self.shapes[0 if self.shape_of is None else self.shape_of[index]]

    def pixels(
        self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None, rejected: bool = False
    ) -> Tensor:
        """Decode one picture to (3, H, W) in [-1, 1]."""
        sample = self.data.source[index]
        file = sample.extra["rejected"] if rejected else sample.image
        picture = images.decode(file.read(), self.settings.background, sample.name)
        return images.to_pixels(images.crop(picture, self.size(index), flip=flip, random_xy=random_xy))

    def geometry(self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None) -> Tensor | None:
        """Return size and crop of a picture, (6,), for a family that reads them; see ``images.geometry``."""
        import torch

        if not self.tells_geometry:
            return None
        return torch.tensor(images.geometry(self._original(index), self.size(index), flip=flip, random_xy=random_xy))

    def _original(self, index: int) -> tuple[int, int]:
        """Return width and height before anybody resized the picture."""
        sample = self.data.source[index]
        told = sample.extra.get("original_size")
        if told is not None:
            return int(told[0]), int(told[1])
        if self.data.sizes is not None and index < len(self.data.sizes) and self.data.sizes[index].all():
            width, height = self.data.sizes[index].tolist()
            return width, height
        return images.size(sample.image.read(), sample.name)

    def mask(self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None) -> Tensor | None:
        """Return how much each latent pixel of a picture counts, (1, H, W) in [0, 1], cropped as the picture is."""
        return self._centre_mask(index, flip) if random_xy is None else self._read_mask(index, flip, random_xy)

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (lives as long as the run)
    def _centre_mask(self, index: int, flip: bool) -> Tensor | None:  # noqa: FBT001
        return self._read_mask(index, flip, None)

    def _read_mask(self, index: int, flip: bool, random_xy: tuple[float, float] | None) -> Tensor | None:  # noqa: FBT001
        import torch

        sample = self.data.source[index]
        file = sample.extra.get("mask")
        if file is None:
            return None
        image = images.decode(file.read(), "black", f"the mask of {sample.name}").convert("L").convert("RGB")
        cropped = images.crop(image, self.size(index), flip=flip, random_xy=random_xy)
        white = torch.from_numpy(cropped[..., 0].copy()).float().div(255)[None]
        return torch.nn.functional.avg_pool2d(white, self.unit)


def _shapes(data: Data, settings: ImageSettings, unit: int) -> tuple[list[tuple[int, int]], NDArray[np.int16]]:
    """Return the sizes of all buckets in use, and the place of each sample's among them (N,).

    Raises:
        DataError: A picture is too small for any bucket.
    """
    resolution, step = settings.resolution, settings.bucket_step
    assert resolution is not None
    assert data.sizes is not None, "encoding.read looks at them"
    step = step or buckets.usual_step(resolution, unit)
    shapes: dict[tuple[int, int], int] = {}
    places = np.empty(len(data.source), np.int16)
    small = []
    for index in range(len(data.source)):
        # What the base draws is square; what is not there yet will be.
        size = tuple(data.sizes[index].tolist()) if index < len(data.sizes) else (0, 0)
        square = (resolution, resolution)
        shape = buckets.fit(size, resolution, step, upscale=settings.bucket_upscale) if any(size) else square
        places[index] = shapes.setdefault(shape, len(shapes))
        if not all(shape):
            small.append(f"{data.source[index].name} ({size[0]}x{size[1]})")
    if small:
        message = (
            f"data.buckets: {len(small)} pictures are smaller than {step} pixels, the smallest side of a bucket: "
            f"{listing(small)}.\nTake them out, lower data.bucket_step, or set data.bucket_upscale=true."
        )
        raise DataError(message)
    return list(shapes), places
