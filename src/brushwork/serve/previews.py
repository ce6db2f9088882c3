"""What a picture will be, long before it is: a linear map from latents to colours instead of the decoder.

    colours = fit(family)                           # (channels + 1, 3), once for each model
    draw(latents, colours).show()                   # one pixel for each latent, enlarged

Every VAE's latents are nearly linear in the mean colour of their patch (the trick is Birch-san's and keturn's, 2022,
with numbers for Stable Diffusion's VAE); here the map is fitted to the model's own VAE by least squares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from brushwork.values import Family

SIDE = 256
"""Pixels of the longer side of a preview, at least."""
PATCHES = 16
"""Latents a side of the picture that the map is fitted to."""


def fit(family: Family) -> Tensor:
    """Return (C + 1, 3): what each latent channel, and a constant, contribute to red, green and blue in [-1, 1]."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    weight = next(family.vae.parameters())
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((4, 3, PATCHES // 2, PATCHES // 2), generator=generator) * 2 - 1
    side = PATCHES * family.pixels_per_latent
    pixels = interpolate(coarse, (side, side), mode="bicubic").clamp(-1, 1)
    with torch.no_grad():
        moments = family.encode_images(pixels.to(weight.device, weight.dtype))
        latents = family.scale_latents(moments.mean.float()).cpu()
    colours = avg_pool2d(pixels, family.pixels_per_latent)
    rows = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    known = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    solution: Tensor = torch.linalg.lstsq(known, colours.movedim(1, -1).reshape(-1, 3)).solution
    return solution


def draw(latents: Tensor, colours: Tensor) -> PIL.Image.Image:
    """Return a preview of latents (1, C, H, W)."""
    from PIL import Image

    from brushwork import canvas

    values = latents[0].float().cpu().movedim(0, -1)
    pixels = values @ colours[:-1] + colours[-1]
    image = canvas.to_images(pixels.movedim(-1, 0)[None])[0]
    factor = max(1, -(-SIDE // max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
