"""X/Y/Z sweeps: what is varied, and the cells that follow.

    axes = [parse("weight=0,0.5,1"), parse("prompt:cat=dog,horse")]
    axes[1].values                                  # ("cat", "dog", "horse"): the word itself comes first

Values are separated by commas and read as YAML, so a value with a comma is quoted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = {
    "weight": "the adapter's weight",
    "checkpoint": "a run's checkpoint, by its step",
    "steps": "denoising steps",
    "cfg": "guidance",
    "sampler": "the sampler",
    "prompt:WORDS": "other words in the place of WORDS in every prompt",
}
NUMBERS = ("weight", "cfg")
WHOLE = ("steps", "checkpoint")
MOST_AXES = 3
MOST_CELLS = 400


@dataclass(frozen=True)
class Axis:
    """One thing that is varied. ``kind`` is one of ``KINDS``; for ``prompt`` the words are in ``words``."""

    kind: str
    values: tuple[Any, ...]
    words: str = ""

    @property
    def title(self) -> str:
        """What stands at the axis."""
        return "prompt" if self.words else self.kind

    def label(self, value: Any) -> str:
        """Return how a value is written."""
        return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Cell:
    """One combination of values; ``at`` has their labels by axis."""

    at: dict[str, str]
    values: dict[str, Any]
    swaps: tuple[tuple[str, str], ...] = ()
    """Words in every prompt, and what stands there instead."""


def parse(text: str) -> Axis:
    """Read ``weight=0,0.5,1`` or ``prompt:cat=dog,horse``.

    Raises:
        ConfigError: There is no such axis, or a value is none of its kind.
    """
    name, equals, listed = text.partition("=")
    kind, colon, words = name.partition(":")
    known = {each.partition(":")[0] for each in KINDS}
    if not equals or kind not in known or (kind == "prompt") != bool(words) or (colon and not words):
        hint = nearest(kind, known) if kind not in known else ""
        message = (
            f"--sweep: {text!r} is no axis.{hint} Write KIND=VALUE,VALUE with one of {', '.join(KINDS)}; "
            f"for example weight=0,0.5,1 or prompt:cat=dog,horse"
        )
        raise ConfigError(message)
    try:
        values = yaml.safe_load(f"[{listed}]")
    except yaml.YAMLError as error:
        message = f'--sweep: the values of {name} cannot be read: {listed!r}. Quote what has commas: "a, b"'
        raise ConfigError(message) from error
    if kind == "prompt":
        values = [words, *map(str, values)]
    return Axis(kind, tuple(_checked(name, kind, value) for value in _distinct(name, values)), words)


def _distinct(name: str, values: Sequence[Any]) -> list[Any]:
    if not values or len({str(each) for each in values}) < len(values):
        message = f"--sweep: {name} needs values, each of them once, but got {', '.join(map(str, values)) or 'none'}."
        raise ConfigError(message)
    return list(values)


def _checked(name: str, kind: str, value: Any) -> Any:
    """Return a value as its kind wants it."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in NUMBERS and number:
        return float(value)
    if kind in WHOLE and isinstance(value, int) and number and value > 0:
        return value
    if kind not in (*NUMBERS, *WHOLE) and isinstance(value, str) and value:
        return value
    wanted = "a number" if kind in NUMBERS else "a whole number from 1" if kind in WHOLE else "a text"
    message = f"--sweep: {value!r} in {name} is not {wanted}."
    raise ConfigError(message)


def cells(axes: Sequence[Axis], models: int = 1) -> list[Cell]:
    """Return every combination, the last axis changing fastest.

    Raises:
        ConfigError: Too many axes or cells, or two axes of one kind.
    """
    names = [f"{each.kind}:{each.words}" for each in axes]
    count = len(axes) + (models > 1)
    if count > MOST_AXES or len(set(names)) < len(names):
        several = " (several models are one of them)" if models > 1 else ""
        message = (
            f"--sweep: {count} axes{several} do not fit on a page; up to {MOST_AXES}."
            if count > MOST_AXES
            else "--sweep: each axis can be given once."
        )
        raise ConfigError(message)
    made = []
    for chosen in itertools.product(*(each.values for each in axes)):
        pairs = list(zip(axes, chosen, strict=True))
        made.append(
            Cell(
                at={_place(axis): axis.label(value) for axis, value in pairs},
                values={axis.kind: value for axis, value in pairs if not axis.words},
                swaps=tuple((axis.words, value) for axis, value in pairs if axis.words),
            )
        )
    if len(made) * models > MOST_CELLS:
        message = f"--sweep: that is {len(made) * models} cells; at most {MOST_CELLS}. Give fewer values."
        raise ConfigError(message)
    return made


def _place(axis: Axis) -> str:
    return f"{axis.title} ({axis.words})" if axis.words else axis.title


def swap(text: str, swaps: Sequence[tuple[str, str]]) -> str:
    """Return a prompt with the words of a cell."""
    for old, new in swaps:
        text = text.replace(old, new)
    return text


def check_words(axes: Sequence[Axis], prompts: Sequence[str]) -> None:
    """Refuse words that no prompt has.

    Raises:
        ConfigError: Sweeping them would change nothing.
    """
    for axis in axes:
        if axis.words and not any(axis.words in text for text in prompts):
            message = (
                f"--sweep: no prompt has the words {axis.words!r}, so prompt:{axis.words} would change nothing. "
                f"The first prompt is {prompts[0]!r}."
            )
            raise ConfigError(message)
