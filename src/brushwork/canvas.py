"""What drawing starts from and what it must keep: noise, a picture to change (img2img), a masked picture (inpainting).

started = start(family, scheduler, requests, generators, timesteps[:1])
started.latents                                 # (B, C, H, W) at the first timestep
started.paste(to_images(pixels))                # outside of the mask every pixel is that of the picture
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    import PIL.Image
    from torch import Generator, Tensor

    from brushwork.generate import Request
    from brushwork.values import Family


@dataclass(frozen=True)
class Kept:
    """What a mask keeps: clean latents with their noise, (B, 1, H, W) masks that are 1 where to draw, the pictures."""

    clean: Tensor
    noise: Tensor
    drawn: Tensor
    originals: list[PIL.Image.Image]
    masks: list[PIL.Image.Image]


@dataclass(frozen=True)
class Start:
    """The latents at the first timestep."""

    latents: Tensor
    kept: Kept | None = None

    def keep(self, latents: Tensor, scheduler: Any, following: Tensor) -> Tensor:
        """Put what the mask keeps back, noised to the following timestep (none: the end)."""
        if self.kept is None:
            return latents
        known = self.kept.clean
        if len(following):
            known = _noised(scheduler, known, self.kept.noise, following)
        return latents * self.kept.drawn + known * (1 - self.kept.drawn)

    def paste(self, images: list[PIL.Image.Image]) -> list[PIL.Image.Image]:
        """Put the original pixels back outside of the mask; the decoder changes all of them a little."""
        from PIL import Image

        if self.kept is None:
            return images
        kept = zip(images, self.kept.originals, self.kept.masks, strict=True)
        return [Image.composite(image, original, mask) for image, original, mask in kept]


def start(
    family: Family, scheduler: Any, requests: Sequence[Request], generators: list[Generator], timestep: Tensor
) -> Start:
    """Draw the initial noise, and lay it on the pictures to start from if there are any."""
    import torch

    first = requests[0]
    device = next(family.denoiser.parameters()).device
    shape = (family.latent_channels, *latent_size(family, first))
    if first.init is None:
        return Start(_noise(shape, generators).to(device) * getattr(scheduler, "init_noise_sigma", 1.0))
    originals = [_fitted(each.init, each) for each in requests if each.init is not None]
    # The posterior is sampled before the noise is drawn, as diffusers does.
    clean = torch.cat(
        [_encode(family, picture, generator) for picture, generator in zip(originals, generators, strict=True)]
    )
    noise = _noise(shape, generators).to(device)
    entirely = first.strength == 1
    whole = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    latents = whole if entirely else _noised(scheduler, clean, noise, timestep)
    if first.mask is None:
        return Start(latents)
    masks = [_binary(_fitted(each.mask, each)) for each in requests if each.mask is not None]
    return Start(latents, Kept(clean, noise, _to_latents(masks, shape).to(device), originals, masks))


def latent_size(family: Family, request: Request) -> tuple[int, int]:
    """Return height and width of a picture's latents."""
    width, height = _size(request)
    return height // family.pixels_per_latent, width // family.pixels_per_latent


def to_images(pixels: Tensor) -> list[PIL.Image.Image]:
    """Turn pixels (B, 3, H, W) in [-1, 1] into pictures."""
    from PIL import Image

    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(each) for each in levels]


def _size(request: Request) -> tuple[int, int]:
    assert request.width is not None and request.height is not None, "generate.draw fills the size in"  # noqa: PT018
    return request.width, request.height


def _noised(scheduler: Any, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Mix noise in up to a timestep; diffusers' flow schedulers call it otherwise."""
    if hasattr(scheduler, "scale_noise"):
        return cast("Tensor", scheduler.scale_noise(clean, timestep, noise))
    return cast("Tensor", scheduler.add_noise(clean, noise, timestep))


def _noise(shape: tuple[int, ...], generators: list[Generator]) -> Tensor:
    import torch

    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators])


def _encode(family: Family, picture: PIL.Image.Image, generator: Generator) -> Tensor:
    """Return scaled latents drawn from the posterior, (1, C, H, W) in float32."""
    import numpy as np
    import torch

    weight = next(family.vae.parameters())
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1
    moments = family.encode_images(pixels.to(weight.device, weight.dtype))
    noise = torch.randn(moments.mean.shape, generator=generator).to(weight.device)
    return family.scale_latents(moments.mean.float() + moments.std.float() * noise)


def _fitted(picture: PIL.Image.Image, request: Request) -> PIL.Image.Image:
    """Fill the size with a picture, cut evenly at its longer side."""
    from PIL import Image, ImageOps

    return ImageOps.fit(picture.convert("RGB"), _size(request), Image.Resampling.LANCZOS)


def _binary(mask: PIL.Image.Image) -> PIL.Image.Image:
    """Return black and white."""
    return mask.convert("L").point([0] * 128 + [255] * 128)


def _to_latents(masks: Sequence[PIL.Image.Image], shape: tuple[int, ...]) -> Tensor:
    """Return (B, 1, H, W), 1 wherever any pixel of the latent's patch is to be drawn."""
    import numpy as np
    import torch
    from torch.nn.functional import adaptive_max_pool2d

    pixels = torch.stack([torch.from_numpy(np.asarray(mask, np.float32) / 255)[None] for mask in masks])
    return adaptive_max_pool2d(pixels, shape[1:])
