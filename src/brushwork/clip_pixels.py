"""A CLIP model's own preparation of a picture as differentiable arithmetic, so that a loss can be taken through it.

    prepare = Preparation.of(clip.processor)
    features = clip.model.get_image_features(pixel_values=prepare(pixels))       # pixels (B, 3, H, W) in [-1, 1]

The same as the processor's Pillow code but for its rounding to whole levels of 1/255 after each pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from brushwork.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

FILTERS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that torch has too, both averaging over all pixels when they shrink."""
LEVEL = 1 / 255


@dataclass(frozen=True)
class Preparation:
    """How a CLIP model prepares pictures. Sides in pixels; None: this step is left out."""

    shortest: int | None
    """The shorter side after resizing, the other in proportion."""
    filter: Literal["bilinear", "bicubic"]
    crop: tuple[int, int] | None
    """Height and width of the middle that is kept."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(processor: Any) -> Preparation:
        """Read a ``CLIPImageProcessor``'s settings.

        Raises:
            ModelError: It does something that cannot be done here with gradients.
        """
        settings = processor.to_dict()
        size, crop = (_sides(settings.get(key)) for key in ("size", "crop_size"))
        shortest = size.get("shortest_edge") if settings.get("do_resize", True) else None
        number = int(settings.get("resample", 3))
        scale = settings.get("rescale_factor", LEVEL) if settings.get("do_rescale", True) else 1
        strange = {
            f"size {size}": settings.get("do_resize", True) and shortest is None,
            f"the filter {number} of Pillow": number not in FILTERS,
            f"values of 0 to {255 * scale:g}": not math.isclose(scale, LEVEL, rel_tol=1e-6),
        }
        found = [what for what, true in strange.items() if true]
        if found:
            message = (
                f"objective.clip: its preprocessor_config.json asks for {' and '.join(found)}, which cannot be done "
                f"with gradients here.\nTake a CLIP model that resizes by shortest_edge, bicubic or bilinear, to "
                f"values of 0 to 1, as OpenAI's and LAION's do."
            )
            raise ModelError(message)
        normal = settings.get("do_normalize", True)
        return Preparation(
            shortest=shortest,
            filter=FILTERS[number],
            crop=(crop["height"], crop["width"]) if settings.get("do_center_crop", True) else None,
            mean=tuple(settings["image_mean"]) if normal else (0.0, 0.0, 0.0),
            std=tuple(settings["image_std"]) if normal else (1.0, 1.0, 1.0),
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return what the model is shown, (B, 3, h, w) float32, for pixels (B, 3, H, W) in about [-1, 1].

        Raises:
            ModelError: The pictures are smaller than what is to be cropped.
        """
        import torch

        shown = (held(pixels.float()) + 1) / 2
        height, width = shown.shape[2:]
        if self.shortest is not None and min(height, width) != self.shortest:
            # Pillow's two passes, each clipped: bicubic goes beyond white at an edge.
            tall, wide = (int(self.shortest * side / min(height, width)) for side in (height, width))
            for sides in ((height, wide), (tall, wide)):
                shown = torch.nn.functional.interpolate(
                    shown, size=sides, mode=self.filter, antialias=True, align_corners=False
                ).clamp(0, 1)
        if self.crop is not None:
            top, left = ((side - kept) // 2 for side, kept in zip(shown.shape[2:], self.crop, strict=True))
            if min(top, left) < 0:
                message = (
                    f"objective.clip: it crops pictures to {self.crop}, but they are {tuple(shown.shape[2:])} here."
                )
                raise ModelError(message)
            shown = shown[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        mean, std = (torch.tensor(each, device=shown.device).view(1, 3, 1, 1) for each in (self.mean, self.std))
        return (shown - mean) / std


def held(pixels: Tensor) -> Tensor:
    """Clamp pixels of any shape to [-1, 1], as saving a picture does, with a gradient that can lead back inside.

    ``clamp`` has none outside, and much of a drawing lies just beyond white: such pixels could never become ink. Here
    the gradient passes unless following it would lead further out.
    """
    inside = pixels + (pixels.clamp(-1, 1) - pixels).detach()
    if inside.requires_grad:
        beyond = pixels.detach()
        inside.register_hook(lambda slope: slope.masked_fill(beyond.abs().gt(1) & (slope * beyond).lt(0), 0))
    return inside


def _sides(size: Any) -> dict[str, int]:
    """Return a processor's size without what is not set; old files give one number for both sides."""
    if isinstance(size, int):
        return {"height": size, "width": size, "shortest_edge": size}
    return {key: value for key, value in dict(size or {}).items() if value is not None}
