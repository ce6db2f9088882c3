"""Sources: where samples come from. One file each; the file name is the registered name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from brushwork.config import PluginSettings


def _colour(value: object) -> object:
    from PIL import ImageColor

    ImageColor.getrgb(str(value))  # raises ValueError with the list of forms for an unknown colour
    return value


class ImageSettings(PluginSettings):
    """What every source of images has: how a picture becomes a square of pixels, and what is held out."""

    resolution: PositiveInt | None = Field(None, description="Pixels a side; default: what the base was trained at.")
    buckets: bool = Field(
        default=False,
        description="Crop pictures to buckets of like shape, of about resolution squared pixels, instead of squares; "
        "a batch has one shape, and nothing is enlarged.",
    )
    bucket_step: PositiveInt | None = Field(
        None, description="Sides of buckets are multiples of it; default: 64, below 512 pixels an eighth of resolution."
    )
    bucket_upscale: bool = Field(default=False, description="Enlarge pictures that are too small for a full bucket.")
    center_crop: bool = Field(default=True, description="Crop the middle; otherwise a random square each time.")
    random_flip: bool = Field(default=False, description="Mirror half of the pictures, anew each time they are seen.")
    caption_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Train so often with the empty caption, which guidance needs; 0.1 is usual.",
    )
    background: Annotated[str, BeforeValidator(_colour)] = Field("white", description="What lies behind transparency.")
    allow_findings: bool = Field(
        default=False, description="Train although a look at the data finds errors; see `brushwork data report`."
    )
    validation_split: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="The share held out for the validation loss; auto: a tenth, at most 32, none below 20."
    )

    @model_validator(mode="after")
    def _of_buckets(self) -> ImageSettings:
        self._refuse_changed("buckets is false", self.buckets, "bucket_step", "bucket_upscale")
        return self
