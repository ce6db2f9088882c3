"""Larger pictures without a model: Lanczos or nearest neighbours.

upscale(image, Asked(upscaler_1="Lanczos", upscaling_resize=2))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    import PIL.Image

    from brushwork.serve.settings import Limits

UPSCALERS = ("None", "Lanczos", "Nearest")


class Asked(BaseModel):
    """A1111's extras, those fields that say how large."""

    resize_mode: int = Field(0, ge=0, le=1, description="0: by a factor; 1: to a size.")
    show_extras_results: bool = True
    gfpgan_visibility: float = 0
    codeformer_visibility: float = 0
    codeformer_weight: float = 0
    upscaling_resize: float = Field(2, gt=0, le=8)
    upscaling_resize_w: int = Field(512, ge=1)
    upscaling_resize_h: int = Field(512, ge=1)
    upscaling_crop: bool = True
    upscaler_1: str = "None"
    upscaler_2: str = "None"
    extras_upscaler_2_visibility: float = 0
    upscale_first: bool = False

    def check(self) -> None:
        """Refuse what this server cannot do.

        Raises:
            ConfigError: With the field.
        """
        for name in ("gfpgan_visibility", "codeformer_visibility", "extras_upscaler_2_visibility"):
            if getattr(self, name):
                message = f"{name}: this server cannot do it; leave it out"
                raise ConfigError(message)
        if self.upscaler_1 not in UPSCALERS:
            message = f"upscaler_1: there is no {self.upscaler_1!r}.{nearest(self.upscaler_1, UPSCALERS)}"
            raise ConfigError(message)


def upscale(image: PIL.Image.Image, asked: Asked, limits: Limits) -> PIL.Image.Image:
    """Return the picture in its new size.

    Raises:
        ConfigError: It would be beyond the server's limits, or there is no such upscaler.
    """
    from PIL import Image, ImageOps

    asked.check()
    size = (asked.upscaling_resize_w, asked.upscaling_resize_h)
    if asked.resize_mode == 0:
        size = (round(image.width * asked.upscaling_resize), round(image.height * asked.upscaling_resize))
    most = 4 * limits.side
    if max(size) > most or min(size) < 1:
        message = f"upscaling_resize: {size[0]}x{size[1]} is beyond the limit of this server, {most} pixels a side"
        raise ConfigError(message)
    method = {"None": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}.get(
        asked.upscaler_1, Image.Resampling.NEAREST
    )
    if asked.resize_mode == 1 and asked.upscaling_crop:
        return ImageOps.fit(image, size, method)
    return image.resize(size, method)
