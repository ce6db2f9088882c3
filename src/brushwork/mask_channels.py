"""Bases for inpainting: a UNet that sees a mask and the latents of the masked picture beside the noisy latents.

    seen = channels(pixels, mask, strength=1.0, encode=encode, size=(64, 64))      # (1, 5, 64, 64)
    unet(widened(unet, latents, conditioning.told(masked=seen)), ...)              # of nine channels

Rombach et al. 2022 (arXiv:2112.10752, section 4.5): the mask (1: to be drawn) and the latents of the picture, in which
what is to be drawn is mid-grey, are concatenated to the noisy ones. Without a picture all of it is masked, as A1111
draws text with such a base. They travel as a tensor of the ``Conditioning``, a row for each latent.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from brushwork.families import Described
    from brushwork.generate import Request
    from brushwork.values import Conditioning, Family

NAME = "masked"
"""Of the tensor, (B, 1 + C, H, W): the mask, then the masked picture's latents."""
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
"""The first convolution of a UNet in a single file."""
NINE = 9
UNTRAINED = (
    "its UNet sees a mask and the masked picture beside the noise, and no training here draws masks.\n"
    "Train on the plain base that it was made from; what comes of it can be drawn with here too (BASE+RUN)"
)


def sees_masks(family: Family) -> bool:
    """Return whether a base is one for inpainting."""
    latents = getattr(family, "latent_channels", None)  # a pipeline that draws by itself does not say
    return family.flow is None and latents is not None and is_wide(family.denoiser, latents)


def is_wide(unet: Any, latent_channels: int) -> bool:
    """Return whether a UNet takes twice the latents and a mask."""
    config = getattr(unet, "config", None)
    return getattr(config, "in_channels", None) == 2 * latent_channels + 1


def check(family: Family, request: Request) -> None:
    """Refuse a strength of the conditioning mask where nothing would follow it.

    Raises:
        ConfigError: The base sees no mask, or there is no picture.
    """
    if request.mask_strength == 1:
        return
    if not sees_masks(family):
        message = (
            f"mask_strength: {request.mask_strength:g} is for inpainting bases, whose UNet sees the mask; this one "
            f"({family.name}) sees the noise alone. Leave it out, or use an inpainting base."
        )
        raise ConfigError(message)
    if request.init is None and request.hires is None:
        message = "mask_strength: it needs a picture to start from (init), or a second pass (hires)"
        raise ConfigError(message)


def channels(
    pixels: Tensor, mask: Tensor | None, strength: float, encode: Callable[[Tensor], Tensor], size: tuple[int, int]
) -> Tensor:
    """Return what the UNet sees of one picture beside the noise, (1, 1 + C, h, w).

    Args:
        pixels: The picture, (1, 3, H, W) in [-1, 1]; where there is none, zeros.
        mask: (1, 1, H, W), 1 where to draw, else 0; None: all of it.
        strength: How wholly the picture is hidden under the mask: at 1 it is grey there, at 0 as it is.
        encode: Makes scaled latents of pixels.
        size: Height and width of the latents.
    """
    import torch
    from torch.nn.functional import interpolate

    hidden = torch.ones_like(pixels[:, :1]) if mask is None else mask.to(pixels)
    latents = encode(pixels * (1 - strength * hidden))
    return torch.cat([interpolate(hidden, size).to(latents), latents], dim=1)


def told(texts: Conditioning, seen: Tensor | None) -> Conditioning:
    """Return what is told of texts with what is seen of their pictures (B, 1 + C, h, w).

    The rows of guided drawing, all without their prompts and then all with them, are of the same pictures.
    """
    if seen is None:
        return texts
    rows = len(next(iter(texts.tensors.values())))
    return texts.told(**{NAME: seen.repeat(rows // len(seen), 1, 1, 1)})


def all_masked(family: Family, texts: Conditioning, size: tuple[int, int]) -> Conditioning:
    """Return what is told of texts without pictures, wherever something else than drawing asks the denoiser.

    Args:
        family: Of another kind than those for inpainting: the texts as they are.
        texts: (B, ...).
        size: Height and width of the latents.
    """
    import torch

    if not sees_masks(family):
        return texts
    weight, side = next(family.vae.parameters()), family.pixels_per_latent
    blank = torch.zeros(1, 3, size[0] * side, size[1] * side, device=weight.device, dtype=weight.dtype)
    seen = channels(blank, None, 1.0, lambda each: family.scale_latents(family.encode_images(each).mean), size)
    return told(texts, seen.to(next(family.denoiser.parameters()).dtype))


def widened(unet: Any, latents: Tensor, conditioning: Conditioning) -> Tensor:
    """Return noisy latents (B, C, H, W) with what else the UNet sees.

    Raises:
        ModelError: It is one for inpainting, and nobody said what lies under the mask.
    """
    import torch

    seen = conditioning.tensors.get(NAME)
    if seen is not None:
        return torch.cat([latents, seen.to(latents.dtype)], dim=1)
    if is_wide(unet, latents.shape[1]):
        message = "model: this is a base for inpainting, which wants a mask here; use the plain base it was made from"
        raise ModelError(message)
    return latents


def plain(family: Family) -> Any:
    """Return a base's denoiser, or of one for inpainting what has its shape (``config``) but for the channels besides.

    Networks that see the noise alone, as ControlNets do, are made for that.
    """
    from diffusers.configuration_utils import FrozenDict

    denoiser: Any = family.denoiser
    if not sees_masks(family):
        return denoiser
    return SimpleNamespace(config=FrozenDict({**denoiser.config, "in_channels": family.latent_channels}))


def of_file(described: Described, dtype: torch.dtype) -> dict[str, Any]:
    """Return a single file's UNet of nine channels, whatever the configs beside it say; nothing where it has four.

    Raises:
        ValueError: The file and the configs differ in more than that, or diffusers cannot read them (OSError).
    """
    from diffusers import UNet2DConditionModel
    from safetensors import safe_open

    if described.config is None or FIRST not in described.keys:
        return {}
    with safe_open(described.path, framework="pt") as file:
        shape = file.get_slice(FIRST).get_shape()
    if shape[1] != NINE:
        return {}
    load: Any = UNet2DConditionModel.from_single_file
    found = load(
        str(described.path), config=described.config, subfolder="unet", in_channels=shape[1], torch_dtype=dtype
    )
    return {"unet": found}
