"""Says what is wrong with a configuration, one line for each mistake, with the nearest right word.

recipe.yaml: method.rnak is not a known key. Did you mean rank?
recipe.yaml: train.max_train_steps: should be a valid integer (it is 'many')
"""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from brushwork.errors import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LONGEST = 60
"""Values are cut to so many letters in messages."""


class PartError(ValueError):
    """A plug-in's settings did not validate: carries the settings class and pydantic's own error."""

    def __init__(self, model: type[BaseModel], error: ValidationError) -> None:
        super().__init__(str(error))
        self.model, self.error = model, error


def explain(error: ValidationError, model: type[BaseModel], where: str, prefix: tuple[Any, ...] = ()) -> list[str]:
    """Return one line for each mistake.

    Args:
        error: What pydantic found.
        model: The settings that were validated.
        where: The file, or another word for where the values came from.
        prefix: The keys above ``model``.
    """
    lines: list[str] = []
    unfit: dict[tuple[Any, ...], list[ErrorDetails]] = {}
    for problem in error.errors():
        place = (*prefix, *_place(model, problem["loc"]))
        name = ".".join(map(str, place))
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, PartError):
            # The keys of some plug-ins stand beside those of the settings around them: data.parts.0.path.
            beside = getattr(_inner(model, problem["loc"][:-1]), "beside", None)
            lines += explain(cause.error, cause.model, where, place[:-1] if place[-1] == beside else place)
        elif problem["type"] == "extra_forbidden":
            known = _fields(model, problem["loc"][:-1])
            full = ".".join(map(str, (*prefix, *problem["loc"])))
            lines.append(f"{where}: {full} is not a known key.{nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            hint = " Give a folder, a hub id, or the name of an embedded data set." if name.startswith("data") else ""
            lines.append(f"{where}: {name} is required.{hint}")
        else:
            unfit.setdefault(place, []).append(problem)
    return lines + [_unfit(where, place, problems) for place, problems in unfit.items()]


def _unfit(where: str, place: tuple[Any, ...], problems: list[ErrorDetails]) -> str:
    """Say what a value should be; where several kinds are allowed, pydantic reports each and they become one line."""
    texts = list(dict.fromkeys(map(_wanted, problems)))
    if all(text.startswith("Input should be ") for text in texts):
        said = "should be " + " or ".join(text.removeprefix("Input should be ") for text in texts)
    else:
        said = " or ".join(text.removeprefix("Value error, ") for text in texts)
    given = problems[0]["input"]
    shown = repr(given)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
    value = "" if isinstance(given, (dict, BaseModel)) and not said.startswith("should") else f" (it is {shown})"
    name = f"{'.'.join(map(str, place))}: " if place else ""
    return f"{where}: {name}{said[0].lower() + said[1:]}{value}"


def _wanted(problem: ErrorDetails) -> str:
    """Say in a user's words what pydantic says in a programmer's."""
    kinds = {"model_type": "a mapping of keys", "tuple_type": "a list"}
    if problem["type"] in kinds:
        return f"Input should be {kinds[problem['type']]}"
    return problem["msg"].partition(", unable to")[0]


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the part of a location that a user wrote: pydantic appends which of several kinds it tried."""
    for depth, key in enumerate(location):
        if isinstance(key, str) and key not in _fields(model, location[:depth]):
            return location[:depth]
    return location


def _inner(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the settings at a location below ``model``, or None where there is a plain value."""
    inner: Any = model
    for key in location:
        if isinstance(key, int):  # one of several: tuple[Part, ...]
            inner = next(iter(typing.get_args(inner)), None)
            continue
        fields = inner.model_fields if _is_settings(inner) else {}
        inner = fields[key].annotation if key in fields else None
        if typing.get_origin(inner) is types.UnionType:  # PreserveConfig | None
            inner = next(filter(_is_settings, typing.get_args(inner)), inner)
    return inner if _is_settings(inner) else None


def _is_settings(kind: object) -> bool:
    """Return whether this is a class of settings, which has fields of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields of the settings at a location below ``model``."""
    inner = _inner(model, location)
    return list(inner.model_fields) if inner else []
