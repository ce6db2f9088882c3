"""What a client asks for, as typed requests, and the pictures that it comes to.

    asked = TextToImage(model="mini", prompt="a dog", n=2, seed=7)
    planned = asked.pictures(random_seed=lambda: 1)         # two pictures, seeds 7 and 8

Everything that decides a picture is in its ``Planned``, settled when the job is accepted: no option of the server, and
nothing another client does, changes it afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from brushwork import inpaint, samplers
from brushwork.errors import ConfigError
from brushwork.hires import LARGEST
from brushwork.serve.controls import ControlAsked
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

RANDOM = -1
STATES = ("queued", "running", "done", "failed", "cancelled")
OVER = ("done", "failed", "cancelled")
SEEDS = 1 << 32


class AdapterAsked(Settings):
    """An adapter by its name in the catalogue."""

    name: str = Field(min_length=1)
    weight: float = Field(1.0, ge=-10, le=10)


class HiresAsked(Settings):
    """A second, larger pass over the first picture."""

    scale: float | None = Field(None, ge=1, le=LARGEST, description="How much larger; or say width, height or both.")
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    upscaler: Literal["Latent", "Lanczos", "Nearest"] = Field("Latent", description="Latent: bilinear, in latents.")
    steps: NonNegativeInt = Field(0, description="0: as many as the first pass.")
    strength: float = Field(0.7, gt=0, le=1, description="How much of the first picture is noised away.")
    sampler: str | None = Field(None, description="null: that of the first pass.")
    prompt: str | None = Field(None, description="null: that of the first pass.")
    negative_prompt: str | None = Field(None, description="null: that of the first pass.")

    @model_validator(mode="after")
    def _sized(self) -> HiresAsked:
        if self.scale is None and self.width is None and self.height is None:
            message = "say how large: a scale, or a width or height"
            raise ValueError(message)
        return self


class Planned(Settings):
    """One picture: the model by its name, and everything that drawing needs."""

    model: str
    adapters: tuple[AdapterAsked, ...] = ()
    prompt: str
    negative_prompt: str = ""
    seed: int = Field(ge=0)
    steps: PositiveInt
    guidance_scale: NonNegativeFloat
    width: int | None
    height: int | None
    sampler: str
    init: str | None = None
    mask: str | None = None
    strength: float = 0.75
    clip_skip: PositiveInt = 1
    variation_seed: int = Field(0, ge=0)
    variation_strength: float = 0.0
    seed_resize: tuple[PositiveInt, PositiveInt] | None = None
    noise_multiplier: float = 1.0
    mask_blur: float = 0.0
    masked_content: inpaint.Content = "original"
    only_masked_padding: int | None = None
    mask_strength: float = 1.0
    tiling: bool = False
    hires: HiresAsked | None = None
    controlnet: tuple[ControlAsked, ...] = ()
    vae: str | None = None
    label: str = ""
    """What tells it from the others of its job."""


class Drawn(Settings):
    """What every request for pictures has."""

    model: str = Field("mini", min_length=1, description="A name of GET /api/v1/models.")
    adapters: tuple[AdapterAsked, ...] = Field((), description="Adapters besides those that the prompt names.")
    prompt: str = Field("", description="What to draw, in A1111's grammar.")
    negative_prompt: str = ""
    seed: int = Field(
        RANDOM, ge=RANDOM, lt=SEEDS, description="Of the first picture, the next has the next; -1: random."
    )
    n: PositiveInt = Field(1, description="How many pictures.")
    steps: PositiveInt | None = Field(None, description="null: the model's own, or 20.")
    guidance_scale: NonNegativeFloat | None = Field(None, description="null: the model's own, or 7.")
    width: PositiveInt | None = Field(None, description="null: what the model was trained at.")
    height: PositiveInt | None = Field(None, description="null: what the model was trained at.")
    sampler: str | None = Field(None, description="A name of GET /api/v1/samplers; null: the model's own, or DPM++ 2M.")

    clip_skip: PositiveInt = Field(
        1, le=12, description="The last layer of the text encoder that is used, from the end."
    )
    variation_seed: int = Field(
        RANDOM,
        ge=RANDOM,
        lt=SEEDS,
        description="Other noise, towards which the seed's own is turned. The next picture has the next variation seed "
        "and the same seed; -1: random.",
    )
    variation_strength: float = Field(0.0, ge=0, le=1, description="How far it is turned.")
    seed_resize: tuple[PositiveInt, PositiveInt] | None = Field(
        None, description="Another width and height, whose noise is the middle of this picture's."
    )
    tiling: bool = Field(default=False, description="Whether the picture repeats without a seam (bases with a UNet).")
    vae: str | None = Field(None, description="A name of GET /api/v1/vaes; null: the model's own.")
    controlnet: tuple[ControlAsked, ...] = Field((), description="ControlNets that steer the pictures.")
    hires: HiresAsked | None = Field(None, description="A second, larger pass (txt2img, compare and grid).")
    mask_strength: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Models for inpainting: how wholly what is under the mask is hidden from them; without a mask it "
        "is all of the picture, so too in a second pass.",
    )

    def one(self, seed: int, **changes: Any) -> Planned:
        """Return the picture at a seed.

        Raises:
            ConfigError: A change (of an axis) is none that a picture can have.
        """
        given = {name: getattr(self, name) for name in Planned.model_fields if hasattr(self, name)}
        usual = {"steps": 20, "guidance_scale": 7.0, "sampler": samplers.USUAL}
        given |= {name: value for name, value in usual.items() if given[name] is None}
        try:
            return Planned(**{**given, "seed": seed, **changes})
        except ValidationError as error:
            first = error.errors()[0]
            message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ConfigError(message) from None

    def first_seed(self, random_seed: Callable[[], int]) -> int:
        """Return the seed of the first picture."""
        return random_seed() if self.seed == RANDOM else self.seed

    def series(self, random_seed: Callable[[], int]) -> list[dict[str, int]]:
        """Return the seeds of n pictures: with a variation the seed stays and the variation's counts."""
        first = self.first_seed(random_seed)
        if not self.variation_strength:
            return [{"seed": (first + place) % SEEDS, "variation_seed": 0} for place in range(self.n)]
        other = random_seed() if self.variation_seed == RANDOM else self.variation_seed
        return [{"seed": first, "variation_seed": (other + place) % SEEDS} for place in range(self.n)]

    def numbered(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return n pictures, each labelled with what tells it from the others."""
        varied = "variation seed" if self.variation_strength else "seed"
        every = self.series(random_seed)
        return [self.one(**each, label=f"{varied} {each[varied.replace(' ', '_')]}") for each in every]


class TextToImage(Drawn):
    """Pictures from a text."""

    kind: Literal["txt2img"] = "txt2img"

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw."""
        return self.numbered(random_seed)


class Changed(Drawn):
    """How a picture that is started from is changed; it is named by ``init``."""

    mask: str | None = Field(None, description="The id of a picture of the same size; white is drawn anew.")
    strength: float = Field(0.75, gt=0, le=1, description="How much of the picture is noised away.")
    noise_multiplier: float = Field(1.0, ge=0, le=1.5, description="The initial noise is multiplied by this.")
    mask_blur: float = Field(0.0, ge=0, le=64, description="Deviation in pixels of the blur of the mask's edge.")
    masked_content: inpaint.Content = Field("original", description="What is under the mask at first.")
    only_masked_padding: NonNegativeInt | None = Field(
        None,
        description="The box about the mask, padded by so many pixels, is drawn at the size asked for and put back; "
        "null: the whole picture is drawn.",
    )


class ImageToImage(Changed):
    """A picture changed towards a text; with a mask only where that is white (inpainting)."""

    kind: Literal["img2img", "inpaint"] = "img2img"
    init: str = Field(description="The id of a picture: POST /api/v1/images.")

    @model_validator(mode="after")
    def _masked(self) -> ImageToImage:
        if (self.kind == "inpaint") != (self.mask is not None):
            message = "mask: inpaint needs one, and img2img has none"
            raise ValueError(message)
        if self.hires is not None:
            message = "hires: its first pass is from text alone; leave it out"
            raise ValueError(message)
        return self

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw."""
        return self.numbered(random_seed)


class Compare(Drawn):
    """The same prompts and seeds by several models, side by side."""

    kind: Literal["compare"] = "compare"
    models: tuple[str, ...] = Field(min_length=2, max_length=16)
    prompts: tuple[str, ...] = Field((), description="Several prompts instead of one.")

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw: models innermost, so that each row of the answer is one prompt at one seed."""
        every, texts = self.series(random_seed), self.prompts or (self.prompt,)
        return [
            self.one(**seeds, model=model, prompt=text, label=model)
            for text in texts
            for seeds in every
            for model in self.models
        ]
