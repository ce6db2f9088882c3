"""What a client asks for, as typed requests, and the pictures that it comes to.

    asked = TextToImage(model="mini", prompt="a dog", n=2, seed=7)
    planned = asked.pictures(random_seed=lambda: 1)         # two pictures, seeds 7 and 8

Everything that decides a picture is in its ``Planned``, settled when the job is accepted: no option of the server, and
nothing another client does, changes it afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from brushwork.errors import ConfigError
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

    def one(self, seed: int, **changes: Any) -> Planned:
        """Return the picture at a seed."""
        given = {name: getattr(self, name) for name in Planned.model_fields if hasattr(self, name)}
        usual = {"steps": 20, "guidance_scale": 7.0, "sampler": "DPM++ 2M"}
        given |= {name: value for name, value in usual.items() if given[name] is None}
        return Planned(**{**given, "seed": seed, **changes})

    def first_seed(self, random_seed: Callable[[], int]) -> int:
        """Return the seed of the first picture."""
        return random_seed() if self.seed == RANDOM else self.seed


class TextToImage(Drawn):
    """Pictures from a text."""

    kind: Literal["txt2img"] = "txt2img"

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw."""
        first = self.first_seed(random_seed)
        return [self.one((first + place) % SEEDS, label=f"seed {(first + place) % SEEDS}") for place in range(self.n)]


class ImageToImage(Drawn):
    """A picture changed towards a text; with a mask only where that is white (inpainting)."""

    kind: Literal["img2img", "inpaint"] = "img2img"
    init: str = Field(description="The id of a picture: POST /api/v1/images.")
    mask: str | None = Field(None, description="The id of a picture of the same size; white is drawn anew.")
    strength: float = Field(0.75, gt=0, le=1, description="How much of the picture is noised away.")

    @model_validator(mode="after")
    def _masked(self) -> ImageToImage:
        if (self.kind == "inpaint") != (self.mask is not None):
            message = "mask: inpaint needs one, and img2img has none"
            raise ValueError(message)
        return self

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw."""
        first = self.first_seed(random_seed)
        return [self.one((first + place) % SEEDS, label=f"seed {(first + place) % SEEDS}") for place in range(self.n)]


class Compare(Drawn):
    """The same prompts and seeds by several models, side by side."""

    kind: Literal["compare"] = "compare"
    models: tuple[str, ...] = Field(min_length=2, max_length=16)
    prompts: tuple[str, ...] = Field((), description="Several prompts instead of one.")

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw: models innermost, so that each row of the answer is one prompt at one seed."""
        first, texts = self.first_seed(random_seed), self.prompts or (self.prompt,)
        return [
            self.one((first + place) % SEEDS, model=model, prompt=text, label=model)
            for text in texts
            for place in range(self.n)
            for model in self.models
        ]


AXES = ("model", "prompt", "seed", "steps", "guidance_scale", "sampler", "size", "adapter_weight")


class Axis(Settings):
    """One direction of a grid."""

    name: Literal["model", "prompt", "seed", "steps", "guidance_scale", "sampler", "size", "adapter_weight"]
    values: tuple[str | float, ...] = Field(min_length=1, max_length=50)

    def changes(self, asked: Drawn, value: str | float) -> dict[str, Any]:
        """Return what a value of this axis changes about a picture.

        For ``prompt`` the first value is searched for and replaced by each (Prompt S/R). For ``adapter_weight`` every
        adapter of the request gets the weight.

        Raises:
            ConfigError: The value is none of this axis.
        """
        if self.name == "prompt":
            first = str(self.values[0])
            if first not in asked.prompt:
                message = f"axes: the prompt has no {first!r} in it, which the prompt axis is to replace"
                raise ConfigError(message)
            return {"prompt": asked.prompt.replace(first, str(value))}
        if self.name == "adapter_weight":
            if not asked.adapters:
                message = "axes: adapter_weight: the request has no adapters"
                raise ConfigError(message)
            return {"adapters": tuple(AdapterAsked(name=each.name, weight=_number(value)) for each in asked.adapters)}
        if self.name == "size":
            width, _, height = str(value).partition("x")
            if not (width.isdecimal() and height.isdecimal() and len(str(value)) < 12):  # noqa: PLR2004  (digits of sizes)
                message = f"axes: size: {str(value)[:40]!r} is not WIDTHxHEIGHT"
                raise ConfigError(message)
            return {"width": int(width), "height": int(height)}
        if self.name in ("seed", "steps"):
            return {self.name: _whole(self.name, value)}
        if self.name == "guidance_scale":
            return {self.name: _number(value)}
        return {self.name: str(value)}


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _number(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        message = f"axes: {value!r} is not a number"
        raise ConfigError(message) from None


def _whole(name: str, value: str | float) -> int:
    number = _number(value)
    if not 0 <= number < 1 << 53 or number != int(number):
        message = f"axes: {name}: {value!r} is not a whole number from 0 up"
        raise ConfigError(message)
    return int(number)


class Grid(Drawn):
    """One picture for every combination of up to three axes (the X/Y/Z plot)."""

    kind: Literal["grid"] = "grid"
    axes: tuple[Axis, ...] = Field(min_length=1, max_length=3, description="x, then y, then z.")

    @model_validator(mode="after")
    def _once(self) -> Grid:
        names = [axis.name for axis in self.axes]
        if len(set(names)) < len(names) or self.n != 1:
            message = "axes: each once, and n is 1: seeds are an axis"
            raise ValueError(message)
        return self

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw, x innermost."""
        seed = self.first_seed(random_seed)
        cells: list[tuple[dict[str, Any], str]] = [({}, "")]
        for axis in reversed(self.axes):
            cells = [
                ({**changes, **axis.changes(self, value)}, f"{label}, {axis.name} {_shown(value)}".removeprefix(", "))
                for changes, label in cells
                for value in axis.values
            ]
        return [self.one(**{"seed": seed, **changes, "label": label}) for changes, label in cells]


Job = Annotated[TextToImage | ImageToImage | Compare | Grid, Field(discriminator="kind")]
