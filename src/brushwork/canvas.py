"""What drawing starts from and what it must keep: noise, a picture to change (img2img), a masked picture (inpainting).

started = start(family, scheduler, requests, generators, timesteps[:1])
started.latents                                 # (B, C, H, W) at the first timestep
started.paste(to_images(pixels))                # outside of the mask every pixel is that of the picture

A base for inpainting is told the mask and the masked picture at every step (``brushwork.mask_channels``). Its latents
are its own everywhere, nothing is put back on the way, and at strength 1 it starts from noise alone: as diffusers'
inpainting pipelines draw, from the same random numbers in the same order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from brushwork import inpaint, mask_channels
from brushwork import noise as noises

if TYPE_CHECKING:
    from collections.abc import Sequence

    import PIL.Image
    from torch import Generator, Tensor

    from brushwork.generate import Request
    from brushwork.values import Conditioning, Family


@dataclass(frozen=True)
class Kept:
    """What a mask keeps: clean latents with their noise, (B, C, H, W), and masks (B, 1, H, W), 1 where to draw."""

    clean: Tensor
    noise: Tensor
    drawn: Tensor


@dataclass(frozen=True)
class Start:
    """The latents at the first timestep."""

    latents: Tensor
    kept: Kept | None = None
    views: Sequence[inpaint.View] = ()
    seen: Tensor | None = None
    """What a base for inpainting sees beside the noise, (B, 1 + C, H, W)."""

    def told(self, texts: Conditioning) -> Conditioning:
        """Return what is told of texts, those without the prompts first, with what is seen of the pictures."""
        return mask_channels.told(texts, self.seen)

    def keep(self, latents: Tensor, scheduler: Any, following: Tensor) -> Tensor:
        """Put what the mask keeps back, noised to the following timestep (none: the end)."""
        if self.kept is None:
            return latents
        known = self.kept.clean
        if len(following):
            known = _noised(scheduler, known, self.kept.noise, following)
        return latents * self.kept.drawn + known * (1 - self.kept.drawn)

    def paste(self, images: list[PIL.Image.Image]) -> list[PIL.Image.Image]:
        """Put the original pixels back outside of the masks; the decoder changes all of them a little."""
        if not self.views:
            return images
        return [view.paste(image) for view, image in zip(self.views, images, strict=True)]


def start(
    family: Family,
    scheduler: Any,
    requests: Sequence[Request],
    generators: list[Generator],
    timestep: Tensor,
    *,
    clean: Tensor | None = None,
) -> Start:
    """Draw the initial noise, and lay it on the pictures to start from if there are any.

    Args:
        family: The model.
        scheduler: With its timesteps set.
        requests: Of one size; all of them have a picture to start from or none.
        generators: One for each request, at its seed.
        timestep: The first one, (1,).
        clean: Scaled latents (B, C, H, W) to start from, instead of the requests' pictures.
    """
    first = requests[0]
    views = [] if clean is not None or first.init is None else [inpaint.look(each) for each in requests]
    if first.init is None and clean is None:
        sigma = getattr(scheduler, "init_noise_sigma", 1.0)
        noise = _noise(
            (family.latent_channels, *latent_size(family, first)), requests, generators, family.pixels_per_latent
        )
        begun = Start(noise.to(next(family.denoiser.parameters()).device) * sigma)
    else:
        begun = _on_pictures(family, scheduler, requests, generators, timestep, views, clean)
    if not mask_channels.sees_masks(family):
        return begun
    return replace(begun, kept=None, seen=_seen(family, requests, generators, views, clean))


def _on_pictures(
    family: Family,
    scheduler: Any,
    requests: Sequence[Request],
    generators: list[Generator],
    timestep: Tensor,
    views: Sequence[inpaint.View],
    clean: Tensor | None,
) -> Start:
    """Lay noise on the pictures of views, or on clean latents; see ``start``."""
    import torch

    first = requests[0]
    device = next(family.denoiser.parameters()).device
    shape = (family.latent_channels, *latent_size(family, first))
    entirely = first.strength == 1
    encoded = clean is None and not (entirely and mask_channels.sees_masks(family))
    if encoded:
        # The posterior is sampled before the noise is drawn, as diffusers does.
        pairs = zip(views, generators, strict=True)
        clean = torch.cat([_encode(family, _pixels(view.picture), generator) for view, generator in pairs])
    after = shape if encoded else None
    plain = _noise(shape, requests, generators, family.pixels_per_latent, after=after).to(device)
    noise = plain * torch.tensor([each.noise_multiplier for each in requests], device=device).view(-1, 1, 1, 1)
    masks = [view.mask for view in views if view.mask is not None]
    drawn = _to_latents(masks, shape).to(device) if masks else None
    if drawn is not None and clean is not None:
        under = [each.masked_content for each in requests]
        clean = torch.stack([_under(*row) for row in zip(under, clean, plain, drawn, strict=True)])
    if entirely or clean is None:
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        latents = _noised(scheduler, clean, noise, timestep)
    if drawn is None:
        return Start(latents)
    return Start(latents, None if clean is None else Kept(clean, noise, drawn), views)


def _seen(
    family: Family,
    requests: Sequence[Request],
    generators: list[Generator],
    views: Sequence[inpaint.View],
    clean: Tensor | None,
) -> Tensor:
    """Return what a base for inpainting sees of each picture: of a view, of clean latents, or that there is none."""
    import torch

    weight = next(family.denoiser.parameters())
    width, height = size(requests[0])
    rows = []
    for place, (request, generator) in enumerate(zip(requests, generators, strict=True)):
        mask, pixels = None, torch.zeros(1, 3, height, width)
        if views:
            pixels = _pixels(views[place].picture)
            hole = views[place].mask
            mask = None if hole is None else _levels(hole)
        elif clean is not None and request.mask_strength != 1:
            part = clean[place : place + 1].to(next(family.vae.parameters()))
            pixels = family.decode_latents(part).float()
        seen = mask_channels.channels(
            pixels, mask, request.mask_strength, functools.partial(_encode, family, generator=generator),
            latent_size(family, request),
        )  # fmt: skip
        rows.append(seen)
    return torch.cat(rows).to(weight.device, weight.dtype)


def _under(content: inpaint.Content, clean: Tensor, noise: Tensor, drawn: Tensor) -> Tensor:
    """Return the latents (C, H, W) of a picture with something else where it will be drawn anew (1, H, W)."""
    if content == "latent noise":
        return clean * (1 - drawn) + noise * drawn
    if content == "latent nothing":
        return clean * (1 - drawn)
    return clean


def latent_size(family: Family, request: Request) -> tuple[int, int]:
    """Return height and width of a picture's latents."""
    width, height = size(request)
    return height // family.pixels_per_latent, width // family.pixels_per_latent


def to_images(pixels: Tensor) -> list[PIL.Image.Image]:
    """Turn pixels (B, 3, H, W) in [-1, 1] into pictures."""
    from PIL import Image

    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(each) for each in levels]


def size(request: Request) -> tuple[int, int]:
    """Return width and height in pixels."""
    assert request.width is not None and request.height is not None, "generate.draw fills the size in"  # noqa: PT018
    return request.width, request.height


def _noised(scheduler: Any, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Mix noise in up to a timestep; diffusers' flow schedulers call it otherwise."""
    if hasattr(scheduler, "scale_noise"):
        return cast("Tensor", scheduler.scale_noise(clean, timestep, noise))
    return cast("Tensor", scheduler.add_noise(clean, noise, timestep))


def _noise(
    shape: tuple[int, ...],
    requests: Sequence[Request],
    generators: list[Generator],
    unit: int,
    after: tuple[int, ...] | None = None,
) -> Tensor:
    """Return each request's own noise, (B, *shape), turned towards that of its variation seed.

    Args:
        shape: Of one picture's latents.
        requests: With the variation seeds.
        generators: One for each.
        unit: Pixels a side that a latent covers.
        after: What a picture of the variation seed would have drawn before its noise; None: nothing.
    """
    import torch

    def fresh(seed: int, size: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if after is not None:
            torch.randn(after, generator=generator)
        return torch.randn(size, generator=generator)

    drawn = []
    for request, generator in zip(requests, generators, strict=True):
        own = whole = torch.randn(shape, generator=generator)
        inner = shape
        if request.seed_resize is not None:
            width, height = (max(1, side // unit) for side in request.seed_resize)
            inner = (*shape[:-2], height, width)
            own = fresh(request.seed, inner)
        if request.variation_strength:
            own = noises.slerp(own, fresh(request.variation_seed, inner), request.variation_strength)
        drawn.append(own if inner == shape else noises.in_the_middle(own, whole))
    return torch.stack(drawn)


def _encode(family: Family, pixels: Tensor, generator: Generator) -> Tensor:
    """Return scaled latents drawn from the posterior of pixels (1, 3, H, W) in [-1, 1], (1, C, H, W) in float32."""
    import torch

    weight = next(family.vae.parameters())
    moments = family.encode_images(pixels.to(weight.device, weight.dtype))
    noise = torch.randn(moments.mean.shape, generator=generator).to(weight.device)
    return family.scale_latents(moments.mean.float() + moments.std.float() * noise)


def _pixels(picture: PIL.Image.Image) -> Tensor:
    """Return (1, 3, H, W) in [-1, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1


def _levels(mask: PIL.Image.Image) -> Tensor:
    """Return a mask as (1, 1, H, W), 0 or 1."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(mask, np.float32) / 255)[None, None]


def _to_latents(masks: Sequence[PIL.Image.Image], shape: tuple[int, ...]) -> Tensor:
    """Return (B, 1, H, W), 1 wherever any pixel of the latent's patch is to be drawn."""
    import torch
    from torch.nn.functional import adaptive_max_pool2d

    return adaptive_max_pool2d(torch.cat([_levels(mask) for mask in masks]), shape[1:])
