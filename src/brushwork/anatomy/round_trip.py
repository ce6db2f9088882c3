"""What the VAE alone costs: a picture encoded to latents and decoded again, beside the original.

trip = go(family, picture)
trip.psnr, trip.ssim, trip.back, trip.difference
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.anatomy import shapes
from brushwork.formulas.structure import psnr, ssim

if TYPE_CHECKING:
    import PIL.Image

    from brushwork.anatomy.shapes import Row, Shape
    from brushwork.values import Family

AMPLIFIED = 4
"""Differences are shown so many times larger."""


@dataclass(frozen=True)
class Trip:
    """A picture there and back. PSNR in dB over all pixels and channels (infinite: unchanged), SSIM up to 1."""

    name: str
    original: PIL.Image.Image
    back: PIL.Image.Image
    difference: PIL.Image.Image
    pixels: Shape
    latents: Shape
    psnr: float
    ssim: float
    shapes: tuple[Row, ...]


def go(family: Family, picture: PIL.Image.Image, name: str = "") -> Trip:
    """Encode to the mean of the posterior and decode.

    Args:
        family: The model.
        picture: Of a size that its latents divide, see ``fitted``.
        name: What the picture is called.
    """
    import torch
    from PIL import Image

    from brushwork import canvas

    weight, vae = next(family.vae.parameters()), family.vae
    values = np.asarray(picture.convert("RGB"), np.float32) / 255
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None] * 2 - 1
    part: Any = vae
    with torch.no_grad(), shapes.tracing(encoder=part.encoder) as rows:
        latents = family.scale_latents(family.encode_images(pixels.to(weight)).mean)
        back = canvas.to_images(family.decode_latents(latents).float())[0]
    again = np.asarray(back, np.float64) / 255
    # Compared as pictures are stored: with 256 levels on both sides.
    error = np.abs(again - values.astype(np.float64))
    difference = np.clip(AMPLIFIED * error * 255, 0, 255).astype(np.uint8)
    return Trip(
        name,
        picture,
        back,
        Image.fromarray(difference),
        tuple(pixels.shape[1:]),
        tuple(latents.shape[1:]),
        psnr(values, again),
        ssim(values, again),
        tuple(rows),
    )


def fitted(family: Family, picture: PIL.Image.Image) -> PIL.Image.Image:
    """Return the middle of a picture as a square of the family's own resolution."""
    from PIL import Image, ImageOps

    side = family.resolution
    return ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
