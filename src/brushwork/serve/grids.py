"""The X/Y/Z plot as a job: a picture for every combination of up to three axes.

    axes = (Axis(name="steps", values=(8, 20)), Axis(name="prompt", values=("dog", "cat")))
    Grid(prompt="a dog", axes=axes).pictures(lambda: 0)     # four pictures, x innermost

An axis changes the request itself, and every picture is checked as a request of its own would be.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator

from brushwork import samplers
from brushwork.errors import ConfigError
from brushwork.serve.jobs import RANDOM, SEEDS, AdapterAsked, Changed, Planned
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NONE = "none"
"""On the axis of adapters: a picture without one; on that of VAEs: the model's own."""
PROMPT, NOTHING = "prompt", "nothing"
FIRST = ("adapter", "sampler")
"""Axes that come before those that say more of the same thing: the adapter's weight, the sampler's schedule."""
WHOLE = ("seed", "steps", "clip_skip", "variation_seed", "hires_steps")
REAL = ("guidance_scale", "strength", "variation_strength", "noise_multiplier", "mask_strength", "hires_strength")
HIRES = {"hires_steps": "steps", "hires_strength": "strength", "hires_upscaler": "upscaler", "hires_sampler": "sampler"}
Letter = Literal["x", "y", "z"]


class Axis(Settings):
    """One direction of a grid."""

    name: Literal[
        "model", "prompt", "seed", "steps", "guidance_scale", "sampler", "schedule", "size", "adapter",
        "adapter_weight", "clip_skip", "vae", "strength", "noise_multiplier", "variation_seed", "variation_strength",
        "hires_steps", "hires_strength", "hires_upscaler", "hires_sampler", "mask_strength",
        "nothing",
    ]  # fmt: skip
    values: tuple[str | float, ...] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _nothing(self) -> Axis:
        if self.name == NOTHING and self.values != ("",):
            message = "values: nothing has one, which is empty: it keeps a direction free, so that a grid has rows only"
            raise ValueError(message)
        return self

    def changes(self, asked: Grid, now: Mapping[str, Any], value: str | float) -> dict[str, Any]:
        """Return what a value of this axis changes about a request.

        For ``prompt`` the first value is searched for, in the prompt and in the negative one, and replaced by each
        (Prompt S/R). ``adapter`` names the only adapter of the picture, "none" is none; for ``adapter_weight`` each of
        the adapters gets the weight.

        Args:
            asked: The grid.
            now: The request's fields, as the axes before this one have left them.
            value: One of ``values``.

        Raises:
            ConfigError: The value is none of this axis, or the grid has nothing that it could change.
        """
        if self.name in ("strength", "noise_multiplier") and asked.init is None:
            message = f"axes: {self.name}: these pictures are from text alone; name the one to start from in init"
            raise ConfigError(message)
        if self.name == NOTHING:
            return {}
        if self.name == PROMPT:
            found: Any = self._replaced(now, str(value))
        elif self.name in ("adapter", "adapter_weight"):
            found = {"adapters": self._adapters(now["adapters"], value)}
        elif self.name == "size":
            found = _size(value)
        elif self.name == "schedule":
            found = {"sampler": _scheduled(now["sampler"], str(value))}
        elif self.name in HIRES:
            found = {"hires": self._hires(now["hires"], value)}
        else:
            found = {self.name: self._plain(value)}
        return dict(found)

    def _plain(self, value: str | float) -> str | float | None:
        """Return the value of a field that an axis sets as it is."""
        if self.name in WHOLE:
            return _whole(self.name, value)
        if self.name in REAL:
            return _number(value)
        return None if self.name == "vae" and str(value) == NONE else str(value)

    def _replaced(self, now: Mapping[str, Any], value: str) -> dict[str, str]:
        texts, first = {name: str(now[name]) for name in (PROMPT, "negative_prompt")}, str(self.values[0])
        if not any(first in text for text in texts.values()):
            message = f"axes: the prompt has no {first!r} in it, which the prompt axis is to replace"
            raise ConfigError(message)
        return {name: text.replace(first, value) for name, text in texts.items()}

    def _adapters(self, adapters: tuple[AdapterAsked, ...], value: str | float) -> tuple[AdapterAsked, ...]:
        if self.name == "adapter_weight":
            return tuple(AdapterAsked(name=each.name, weight=_number(value)) for each in adapters)
        weight = adapters[0].weight if adapters else 1.0
        return () if value == NONE else (AdapterAsked(name=str(value), weight=weight),)

    def _hires(self, hires: Any, value: str | float) -> dict[str, Any]:
        if hires is None:
            message = f"axes: {self.name}: these pictures have no second pass; ask for one with hires"
            raise ConfigError(message)
        changed = {HIRES[self.name]: self._plain(value)}
        return {**(hires if isinstance(hires, dict) else hires.model_dump()), **changed}


def _size(value: str | float) -> dict[str, int]:
    width, _, height = str(value).partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(str(value)) < 12):  # noqa: PLR2004  (digits of sizes)
        message = f"axes: size: {str(value)[:40]!r} is not WIDTHxHEIGHT"
        raise ConfigError(message)
    return {"width": int(width), "height": int(height)}


def _scheduled(sampler: str | None, value: str) -> str:
    """Return a sampler with another schedule than it was asked for with."""
    name = samplers.resolve(sampler or samplers.USUAL).name
    known = {each.lower(): each for each in (samplers.AUTOMATIC, *samplers.EVERY)}
    schedule = known.get(value.lower().replace("_", " "))
    if schedule is None:
        message = f"axes: schedule: there is no {value[:40]!r}. Known: {', '.join(known.values())}"
        raise ConfigError(message)
    return name if schedule == samplers.AUTOMATIC else f"{name} {schedule}"


def shown(value: str | float) -> str:
    """Return an axis' value as people write it."""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


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


class Grid(Changed):
    """One picture for every combination of up to three axes (the X/Y/Z plot), from text or from a picture."""

    kind: Literal["grid"] = "grid"
    init: str | None = Field(None, description="The id of a picture to start from: POST /api/v1/images; null: none.")
    axes: tuple[Axis, ...] = Field(min_length=1, max_length=3, description="x, then y, then z.")
    vary_seeds: tuple[Letter, ...] = Field(
        (), max_length=3, description="Axes along which the seed counts on, so that no two pictures share theirs."
    )

    @model_validator(mode="after")
    def _once(self) -> Grid:
        names = [axis.name for axis in self.axes if axis.name not in (PROMPT, NOTHING)]
        if len(set(names)) < len(names) or self.n != 1:
            message = "axes: each once (but prompt), and n is 1: seeds are an axis"
            raise ValueError(message)
        if self.init is None and self.mask is not None:
            message = "mask: it is of the picture in init"
            raise ValueError(message)
        if self.init is not None and self.hires is not None:
            message = "hires: its first pass is from text alone; leave it out"
            raise ValueError(message)
        return self

    def pictures(self, random_seed: Callable[[], int]) -> list[Planned]:
        """Return what to draw, x innermost."""
        names = [axis.name for axis in self.axes]
        if "adapter_weight" in names and not self.adapters and "adapter" not in names:
            message = "axes: adapter_weight: the request has no adapters"
            raise ConfigError(message)
        seeds = {"seed": self.first_seed(random_seed), "variation_seed": 0}
        if self.variation_strength or "variation_strength" in names:
            seeds["variation_seed"] = random_seed() if self.variation_seed == RANDOM else self.variation_seed
        outermost = [range(len(axis.values)) for axis in self.axes[::-1]]
        return [self._cell(seeds, places[::-1]) for places in itertools.product(*outermost)]

    def _cell(self, seeds: dict[str, int], places: tuple[int, ...]) -> Planned:
        """Return the picture at a place: of x, of y, of z."""
        chosen = [(axis, axis.values[place]) for axis, place in zip(self.axes, places, strict=True)]
        now: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields} | seeds
        for axis, value in sorted(chosen, key=lambda each: each[0].name not in FIRST):
            now |= axis.changes(self, now, value)
        now["seed"] = (now["seed"] + self._further(places)) % SEEDS
        try:
            changed = type(self).model_validate(now)
        except ValidationError as error:
            first = error.errors()[0]
            message = f"axes: {'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ConfigError(message) from None
        said = [f"{axis.name} {shown(value)}" for axis, value in chosen[::-1] if axis.name != NOTHING]
        return changed.one(changed.seed, label=", ".join(said))

    def _further(self, places: tuple[int, ...]) -> int:
        """Return how much further the seed counts at a place: as on an odometer of the axes that vary it."""
        further, step = 0, 1
        for letter, axis, place in zip("xyz", self.axes, places, strict=False):
            if letter in self.vary_seeds:
                further += place * step
                step *= len(axis.values)
        return further
