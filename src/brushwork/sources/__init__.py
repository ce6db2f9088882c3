"""Sources: where samples come from. One file each; the file name is the registered name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from brushwork.config import PluginSettings


def _colour(value: object) -> object:
    from PIL import ImageColor

    ImageColor.getrgb(str(value))  # raises ValueError with the list of forms for an unknown colour
    return value


class ImageSettings(PluginSettings):
    """What every source of images has: how a picture becomes a square of pixels, and what is held out."""

    resolution: PositiveInt | None = Field(None, description="Pixels a side; default: what the base was trained at.")
    center_crop: bool = Field(default=True, description="Crop the middle; otherwise a random square each time.")
    random_flip: bool = Field(default=False, description="Mirror half of the pictures, anew each time they are seen.")
    caption_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Train so often with the empty caption, which guidance needs; 0.1 is usual.",
    )
    background: Annotated[str, BeforeValidator(_colour)] = Field("white", description="What lies behind transparency.")
    validation_split: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="The share held out for the validation loss; auto: a tenth, at most 32, none below 20."
    )
