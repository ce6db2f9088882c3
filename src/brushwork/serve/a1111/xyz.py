"""A1111's script "X/Y/Z plot": ``script_name`` and ``script_args``, drawn as our own grid.

The arguments stand in the order of the script's form, which grew: 11 of the first version, 14 with lists to choose
from, 15, and 18 as 1.8 and later have them. An axis is its place in the list of axes, which differs between txt2img
and img2img and, before the 15th argument came, between versions. Clients have these places written down, so the axes
stand where 1.10.1 has them; those that are not here are in the list, say so, and are refused. Our own come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import samplers
from brushwork.errors import ConfigError, nearest
from brushwork.hires import UPSCALERS
from brushwork.serve.a1111 import ranges
from brushwork.serve.a1111.options import OWN_VAE, SUFFIX
from brushwork.serve.grids import NONE, Axis, Grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from brushwork.serve.a1111.requests import Generation
    from brushwork.serve.catalogue import Catalogue, Kind
    from brushwork.serve.jobs import ImageToImage, TextToImage

SCRIPT = "x/y/z plot"
NOTHING = "Nothing"
ABSENT = " (not here)"
MOST_MARGIN = 500
LONGEST = 5
"""Digits of an axis' place, at most."""
_STARTED = (
    "Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "Hires steps", "CFG Scale", "Image CFG Scale",
    "Prompt S/R", "Prompt order", "Sampler",
)  # fmt: skip
OLD = (
    *_STARTED, "Checkpoint name", "Sigma Churn", "Sigma min", "Sigma max", "Sigma noise", "Eta", "Clip skip",
    "Denoising", "Hires upscaler", "Cond. Image Mask Weight", "VAE", "Styles",
)  # fmt: skip
"""The axes when the script had 14 arguments or fewer, as ``webuiapi`` lists them."""
EVERY = (
    *_STARTED, "Hires sampler", "Checkpoint name", "Negative Guidance minimum sigma", "Sigma Churn", "Sigma min",
    "Sigma max", "Sigma noise", "Schedule type", "Schedule min sigma", "Schedule max sigma", "Schedule rho",
    "Skip Early CFG", "Beta schedule alpha", "Beta schedule beta", "Eta", "Clip skip", "Denoising",
    "Initial noise multiplier", "Extra noise", "Hires upscaler", "Cond. Image Mask Weight", "VAE", "Styles",
    "UniPC Order", "Face restore", "Token merging ratio", "Token merging ratio high-res",
    "Always discard next-to-last sigma", "SGM noise multiplier", "Refiner checkpoint", "Refiner switch at",
    "RNG source", "FP8 mode", "Size", "Adapter", "Adapter weight",
)  # fmt: skip
"""The axes of 1.10.1, and ours."""
ONLY_TEXT = ("Hires steps", "Hires sampler", "Hires upscaler")
ONLY_IMAGE = ("Image CFG Scale", "Cond. Image Mask Weight")
OURS: dict[str, tuple[str, type]] = {
    "Seed": ("seed", int), "Var. seed": ("variation_seed", int), "Var. strength": ("variation_strength", float),
    "Steps": ("steps", int), "Hires steps": ("hires_steps", int), "CFG Scale": ("guidance_scale", float),
    "Prompt S/R": ("prompt", str), "Sampler": ("sampler", str), "Hires sampler": ("hires_sampler", str),
    "Checkpoint name": ("model", str), "Schedule type": ("schedule", str), "Clip skip": ("clip_skip", int),
    "Denoising": ("strength", float), "Initial noise multiplier": ("noise_multiplier", float),
    "Hires upscaler": ("hires_upscaler", str), "VAE": ("vae", str), "Size": ("size", str), "Adapter": ("adapter", str),
    "Adapter weight": ("adapter_weight", float), "Cond. Image Mask Weight": ("mask_strength", float),
}  # fmt: skip
SEEDS = ("Seed", "Var. seed")
CATALOGUED: dict[str, Kind] = {"Checkpoint name": "model", "VAE": "vae", "Adapter": "adapter"}
KEPT = "no_fixed_seeds: this server fixes a seed of -1 for the whole plot; vary the seeds along an axis instead"
AXES = ("x", "y", "z")
FIRST_LISTS, FIRST_CSV, FIRST_VARYING = 14, 15, 18
"""How many arguments there were when lists, the choice of text, and varying seeds came."""
_ARGUMENTS = (
    ("Draw legend", True), ("Include Sub Images", False), ("Include Sub Grids", False), ("Keep -1 for seeds", False),
    ("Vary seeds for X", False), ("Vary seeds for Y", False), ("Vary seeds for Z", False), ("Grid margins (px)", 0),
    ("Use text inputs instead of dropdowns", False),
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """What a request asks of the script."""

    axes: tuple[Axis, ...]
    """x, y and z, without what is nothing at the end."""
    legend: bool = True
    lone: bool = False
    sub_grids: bool = False
    vary: tuple[str, ...] = ()
    margin: int = 0

    def grid(self, job: TextToImage | ImageToImage) -> Grid:
        """Return a job's settings as a grid.

        Raises:
            ConfigError: It has several pictures, or something that a grid has not.
        """
        if job.n != 1:
            message = f"script_args: the plot has one picture in each cell, not {job.n}: batch_size and n_iter are 1"
            raise ConfigError(message)
        given = {name: getattr(job, name) for name in type(job).model_fields if name != "kind"}
        axes = tuple(self._settled(axis, job) for axis in self.axes)
        return Grid.model_validate({**given, "axes": axes, "vary_seeds": self.vary})

    def _settled(self, axis: Axis, job: TextToImage | ImageToImage) -> Axis:
        """Return an axis by our grid's name for it: in txt2img Denoising is that of the second pass."""
        if axis.name == "strength" and job.kind == "txt2img":
            return axis.model_copy(update={"name": "hires_strength"})
        return axis


class Script:
    """The script for one server."""

    def __init__(self, catalogue: Catalogue, random_seed: Callable[[], int]) -> None:
        self.catalogue, self.random_seed = catalogue, random_seed

    def asked(self, request: Generation, *, image: bool) -> Plot:
        """Return what a request asks.

        Args:
            request: With ``script_name``.
            image: Whether it is img2img.

        Raises:
            UserError: There is no such script, an argument is none, or an axis is not here.
        """
        if str(request.script_name).strip().lower() != SCRIPT:
            message = f"script_name: this server has no {str(request.script_name)[:80]!r}; it has {SCRIPT}"
            raise ConfigError(message)
        return self._plot(_arguments(request.script_args), request, image=image)

    def _plot(self, given: _Arguments, request: Generation, *, image: bool) -> Plot:
        axes, free = [], Axis(name="nothing", values=("",))
        known = labels(image=image, old=given.old)
        for letter, (which, typed, chosen) in zip(AXES, given.axes, strict=True):
            label = _label(which, known, letter)
            if label == NOTHING:
                axes.append(free)
                continue
            if label not in OURS:
                here = ", ".join(each for each in known if each in OURS)
                message = f"script_args: {letter}: this server has no axis {label!r}. It has: {here}"
                raise ConfigError(message)
            source = chosen if chosen and not given.from_text and self.choices(label) is not None else typed
            try:
                axes.append(self._axis(label, source, given, request))
            except ConfigError as error:
                message = f"script_args: {letter}: {label}: {error}"
                raise ConfigError(message) from None
        while axes and axes[-1] is free:
            del axes[-1]
        if not axes:
            message = "script_args: all three axes are Nothing; choose one, or leave the script out"
            raise ConfigError(message)
        if given.keep_random and request.seed < 0 and "seed" not in {each.name for each in axes}:
            message = f"script_args: {KEPT}"
            raise ConfigError(message)
        return Plot(tuple(axes), given.legend, given.lone, given.sub_grids, given.vary, given.margin)

    def _axis(self, label: str, source: str | list[str], given: _Arguments, request: Generation) -> Axis:
        name, kind = OURS[label]
        values = ranges.values(source, kind)
        if not values:
            message = "it has no values"
            raise ConfigError(message)
        if label in SEEDS:
            if given.keep_random and -1 in values:
                raise ConfigError(KEPT)
            values = [self.random_seed() if each == -1 else each for each in values]
        found = [self._named(label, each, request) if isinstance(each, str) else each for each in values]
        return Axis.model_validate({"name": name, "values": found})

    def _named(self, label: str, value: str, request: Generation) -> str:
        """Return a word as our grid's axis has it.

        Raises:
            UserError: There is nothing of that name.
        """
        plain = value.lower() in (NONE, *(str(each).lower() for each in OWN_VAE))
        if label in CATALOGUED:
            kind = CATALOGUED[label]
            return NONE if plain and kind != "model" else self.catalogue.find(kind, value.removesuffix(SUFFIX)).name
        if label == "Sampler":
            return request.model_copy(update={"sampler_name": value}).sampler()
        if label == "Hires sampler":
            return samplers.resolve(value).name
        if label == "Hires upscaler" and value not in UPSCALERS:
            message = f"there is no {value[:40]!r}.{nearest(value, UPSCALERS)}"
            raise ConfigError(message)
        return value

    def choices(self, label: str) -> list[str] | None:
        """Return what can be chosen on an axis; None: anything that is typed."""
        if label in CATALOGUED:
            none = [] if label == "Checkpoint name" else ["None"]
            return [*none, *(each.title for each in self.catalogue.all(CATALOGUED[label]))]
        if label in ("Sampler", "Hires sampler"):
            return samplers.names()
        return {"Schedule type": ["Automatic", *samplers.EVERY], "Hires upscaler": list(UPSCALERS)}.get(label)

    def info(self, *, image: bool) -> dict[str, Any]:
        """Return the script's form as ``/sdapi/v1/script-info`` says it."""
        every = [each if each in OURS or each == NOTHING else each + ABSENT for each in labels(image=image)]
        args = []
        for letter in "XYZ":
            args.append(_argument(f"{letter} type", "Seed" if letter == "X" else NOTHING, every))
            args += [_argument(f"{letter} values", ""), _argument(f"{letter} values", [], [])]
        args += [_argument(name, value) for name, value in _ARGUMENTS]
        return {"name": SCRIPT, "is_alwayson": False, "is_img2img": image, "args": args}


def labels(*, image: bool, old: bool = False) -> list[str]:
    """Return the axes in the order in which a client counts them.

    Args:
        image: Whether it is img2img.
        old: Whether the client has at most 14 arguments.
    """
    left_out = ONLY_TEXT if image else ONLY_IMAGE
    return [each for each in (OLD if old else EVERY) if each not in left_out]


def _label(which: object, known: list[str], letter: str) -> str:
    """Return an axis by its place, or by its name."""
    if isinstance(which, bool) or which in (None, ""):
        return NOTHING
    if isinstance(which, str) and not which.isdecimal():
        found = {each.lower(): each for each in known}.get(which.lower().removesuffix(ABSENT))
        if found is None:
            message = f"script_args: {letter}: there is no axis {which[:40]!r}.{nearest(which, known)}"
            raise ConfigError(message)
        return found
    place = int(which) if isinstance(which, int) or (isinstance(which, str) and len(which) < LONGEST) else -1
    if not 0 <= place < len(known):
        last = f"{len(known) - 1} ({known[-1]})"
        message = f"script_args: {letter}: there is no axis {str(which)[:40]}; they are 0 ({known[0]}) to {last}"
        raise ConfigError(message)
    return known[place]


@dataclass(frozen=True)
class _Arguments:
    """The script's arguments, whichever version's."""

    axes: tuple[tuple[Any, str, list[str]], ...]
    """Of each the axis, the text of its values, and those that were chosen from a list."""
    legend: bool
    lone: bool
    sub_grids: bool
    keep_random: bool
    vary: tuple[str, ...]
    margin: int
    from_text: bool
    old: bool


def _arguments(args: list[Any]) -> _Arguments:
    """Read the arguments by how many there are.

    Raises:
        ConfigError: No version has so many.
    """
    counts = (11, FIRST_LISTS, FIRST_CSV, FIRST_VARYING)
    if len(args) not in counts:
        message = (
            f"script_args: {len(args)} arguments; the X/Y/Z plot has {', '.join(map(str, counts[:-1]))} or "
            f"{counts[-1]}: GET /sdapi/v1/script-info lists them"
        )
        raise ConfigError(message)
    wide = 3 if len(args) >= FIRST_LISTS else 2
    axes = tuple(_axis(args[wide * place : wide * (place + 1)]) for place in range(3))
    rest = args[3 * wide :]
    vary = [rest.pop(4) for _ in AXES] if len(args) == FIRST_VARYING else [False] * 3
    legend, lone, sub_grids, keep_random, margin, *last = rest
    return _Arguments(
        axes,
        _truth(legend),
        _truth(lone),
        _truth(sub_grids),
        _truth(keep_random),
        tuple(letter for letter, is_wanted in zip(AXES, vary, strict=True) if _truth(is_wanted)),
        _margin(margin),
        any(map(_truth, last)),
        old=len(args) < FIRST_CSV,
    )


def _axis(args: list[Any]) -> tuple[Any, str, list[str]]:
    which, typed = args[0], args[1]
    chosen = args[2] if len(args) > 2 else []  # noqa: PLR2004  (a list to choose from)
    chosen = ranges.split(chosen) if isinstance(chosen, str) else chosen
    every = [str(each) for each in chosen if str(each).strip()] if isinstance(chosen, list) else []
    return which, "" if typed is None else str(typed), every


def _truth(value: object) -> bool:
    """Return what a check box says; clients send words, too."""
    return value.strip().lower() in ("true", "1", "yes") if isinstance(value, str) else bool(value)


def _margin(value: object) -> int:
    try:
        margin = int(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        margin = -1
    if not 0 <= margin <= MOST_MARGIN:
        message = f"script_args: margin_size: {str(value)[:40]} is not a number of pixels from 0 to {MOST_MARGIN}"
        raise ConfigError(message)
    return margin


def _argument(label: str, value: Any, choices: list[str] | None = None) -> dict[str, Any]:
    limits = {"minimum": 0, "maximum": MOST_MARGIN, "step": 2} if label == "Grid margins (px)" else {}
    return {"label": label, "value": value, "minimum": None, "maximum": None, "step": None, "choices": choices} | limits
