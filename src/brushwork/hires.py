"""Large pictures in two passes ("hires fix"): draw small, enlarge, and change the large one a little.

    Request("a dog", width=64, height=64, hires=Hires(scale=2, upscaler="Latent", strength=0.6))

A model that draws beyond the size it was trained at repeats its subject; a first pass at its own size settles what is
where. The second pass is img2img: with Lanczos or Nearest it is, to the bit, that of the enlarged first picture at the
same seed; Latent enlarges the latents themselves, bilinearly, and draws the seed's noise at the new size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brushwork import samplers
from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from brushwork.generate import Request

UPSCALERS = ("Latent", "Lanczos", "Nearest")


@dataclass(frozen=True)
class Hires:
    """The second pass.

    Args:
        scale: How much larger each side is; sides are rounded down to what the model can draw. None: see the size.
        width: In pixels, instead of a scale; with one side only the other keeps the proportions.
        height: In pixels, instead of a scale.
        upscaler: ``Latent``, ``Lanczos`` or ``Nearest``.
        steps: Of the whole schedule, of which ``strength`` is made; 0: as many as the first pass.
        strength: How much is noised away, above 0 to 1.
        sampler: None: that of the first pass.
        prompt: None: that of the first pass.
        negative_prompt: None: that of the first pass.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    upscaler: str = "Latent"
    steps: int = 0
    strength: float = 0.7
    sampler: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no model could draw."""
        if self.upscaler not in UPSCALERS:
            message = f"hires.upscaler: there is no {self.upscaler!r}.{nearest(self.upscaler, UPSCALERS)}"
            raise ConfigError(message)
        if not 0 < self.strength <= 1:
            message = f"hires.strength: {self.strength} is not above 0 and at most 1"
            raise ConfigError(message)
        if self.steps < 0:
            message = f"hires.steps: {self.steps} is too few; 0 means as many as the first pass"
            raise ConfigError(message)
        if self.scale is None and self.width is None and self.height is None:
            message = "hires: say how large: a scale, or a width or height"
            raise ConfigError(message)
        if self.scale is not None and not 1 <= self.scale <= LARGEST:
            message = f"hires.scale: {self.scale:g} is not from 1 to {LARGEST}"
            raise ConfigError(message)
        if self.sampler is not None:
            samplers.resolve(self.sampler)


LARGEST = 8
"""The largest scale."""


def fitted(hires: Hires, width: int, height: int, unit: int) -> Hires:
    """Fill in the size of the second pass over a first one of ``width`` and ``height`` pixels.

    Raises:
        ConfigError: A side that was asked for is no multiple of ``unit``, or smaller than the first pass.
    """
    wide, high = hires.width, hires.height
    for side, pixels, small in (("width", wide, width), ("height", high, height)):
        if pixels is not None and (pixels % unit or pixels < small):
            near = max(small, round(pixels / unit) * unit)
            message = f"hires.{side}: {pixels} is not a multiple of {unit} from {small} up; nearest: {near}"
            raise ConfigError(message)
    if wide is None and high is None:
        assert hires.scale is not None, "checked before"
        wide, high = int(width * hires.scale), int(height * hires.scale)
    elif high is None:
        assert wide is not None, "the other case"
        high = round(height * wide / width)
    elif wide is None:
        wide = round(width * high / height)
    return dataclasses.replace(hires, width=max(wide // unit * unit, unit), height=max(high // unit * unit, unit))


def second(request: Request) -> Request | None:
    """Return the request of the second pass, without the picture that it starts from; None: there is none."""
    hires = request.hires
    if hires is None:
        return None
    return dataclasses.replace(
        request,
        width=hires.width,
        height=hires.height,
        steps=hires.steps or request.steps,
        strength=hires.strength,
        sampler=hires.sampler or request.sampler,
        prompt=request.prompt if hires.prompt is None else hires.prompt,
        negative_prompt=request.negative_prompt if hires.negative_prompt is None else hires.negative_prompt,
        hires=None,
    )


def enlarge_latents(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge (B, C, H, W) bilinearly until a height and width are filled, and cut evenly what is beyond them."""
    from torch.nn.functional import interpolate

    high, wide = size
    factor = max(high / latents.shape[2], wide / latents.shape[3])
    covering = (max(high, round(latents.shape[2] * factor)), max(wide, round(latents.shape[3] * factor)))
    large = interpolate(latents, covering, mode="bilinear", align_corners=False)
    top, left = (covering[0] - high) // 2, (covering[1] - wide) // 2
    return large[:, :, top : top + high, left : left + wide]


def enlarge_picture(image: PIL.Image.Image, hires: Hires) -> PIL.Image.Image:
    """Fill the size of the second pass with a picture, cut evenly at its longer side."""
    from PIL import Image, ImageOps

    assert hires.width is not None and hires.height is not None, "fitted"  # noqa: PT018
    methods = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
    return ImageOps.fit(image, (hires.width, hires.height), methods[hires.upscaler])


def infotext(hires: Hires | None) -> dict[str, object]:
    """Return A1111's fields of a second pass, but for the strength, which has its own place."""
    if hires is None:
        return {}
    sampler = samplers.resolve(hires.sampler) if hires.sampler else None
    fields = {
        "Hires sampler": sampler.name if sampler else None,
        "Hires schedule type": sampler.schedule if sampler else None,
        "Hires prompt": hires.prompt,
        "Hires negative prompt": hires.negative_prompt,
        "Hires upscale": hires.scale,
        "Hires resize": None if hires.scale is not None else f"{hires.width}x{hires.height}",
        "Hires steps": hires.steps or None,
        "Hires upscaler": hires.upscaler,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}
