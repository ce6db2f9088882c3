"""What a bake-off is asked to do: methods, data, budget, seeds; from options, a recipe or Python.

    asked = requested({"methods": "full,dora=lora+method.use_dora=true", "data": "engravings", "steps": 300})
    asked.config("dora", seed=0)                # the configuration of one training run

A recipe has the keys of a configuration, which hold for all methods, and those of ``Request``. Under ``methods`` each
name has a preset and the keys that hold for it alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from brushwork import config as configs
from brushwork.errors import ConfigError, nearest
from brushwork.explain import explain
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from brushwork.config import Config

QUIET: dict[str, Any] = {"validation": {"samples_during_training": 0}, "train": {"checkpoints_total_limit": 1}}
"""What holds for every run unless something else is said: nobody looks at samples of five runs."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
MORE = re.compile(r"\+(?=[a-z_]+(?:\.[a-z_]+)*=)")


class Request(Settings):
    """The methods and what they share; saved as compare.yaml."""

    methods: dict[str, dict[str, Any]] = Field(min_length=1, description="By name: a preset and keys of its own.")
    base: str = Field("mini", description="What they all start from.")
    data: dict[str, Any] = Field(description="What they are all trained on: at least its path.")
    steps: PositiveInt | None = Field(None, description="Optimizer steps of each.")
    seconds: PositiveFloat | None = Field(None, description="Seconds of optimizer steps of each.")
    seeds: PositiveInt = Field(1, description="Training runs of each method.")
    seed: NonNegativeInt = Field(0, description="The seed of the first run; the others count up.")
    concept: str | None = Field(
        None,
        min_length=1,
        description="The words in prompts that name what is learnt; a learnt word takes their place.",
    )
    means: str | None = Field(
        None, min_length=1, description="What the judge reads, and the base draws, in their place."
    )
    metrics: tuple[str, ...] = Field((), description="Names of metrics; none: all.")
    common: dict[str, Any] = Field(default_factory=dict, description="Keys of a configuration that hold for all.")

    @model_validator(mode="after")
    def _one_budget(self) -> Request:
        if (self.steps is None) == (self.seconds is None):
            message = "steps, seconds: give one budget for all methods, --steps N or --seconds S"
            raise ValueError(message)
        if self.means is not None and self.concept is None:
            message = "means is set but concept is not; say which words of the prompts it stands for"
            raise ValueError(message)
        return self

    def config(self, name: str, seed: int, **train: Any) -> Config:
        """Return the configuration of one method's run.

        Raises:
            ConfigError: It is wrong; the message begins with the method's name.
        """
        own = {key: value for key, value in self.methods[name].items() if key != "preset"}
        tree = configs.merge(configs.merge(QUIET, self.common), {"data": self.data})
        budget = {"max_train_steps": self.steps} if self.steps else {"max_train_seconds": self.seconds}
        own = configs.merge(own, {"train": {**own.get("train", {}), **budget, **train}})
        try:
            return configs.load(
                configs.merge(tree, own), method=self.methods[name]["preset"], base=self.base, seed=seed, name=name
            )
        except ConfigError as error:
            raise ConfigError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None


def requested(tree: Mapping[str, Any], overrides: Sequence[str] = ()) -> Request:
    """Read a request; keys of a configuration among the others hold for all methods.

    Raises:
        ConfigError: With what is wrong.
    """
    tree = {key: value for key, value in tree.items() if value is not None}
    methods = _methods(tree.get("methods", {}))
    if isinstance(tree.get("data"), str):
        tree["data"] = {"path": tree["data"]}
    for text in overrides:
        name, colon, rest = text.partition(":")
        if colon and "=" not in name:
            if name not in methods:
                message = f"{text!r}: {name!r} is none of the methods.{nearest(name, methods)}"
                raise ConfigError(message)
            methods[name] = configs.merge(methods[name], configs.parse_override(rest))
        else:
            tree = configs.merge(tree, configs.parse_override(text))
    shared = {key: value for key, value in tree.items() if key in configs.Config.model_fields}
    own = {key: value for key, value in tree.items() if key in Request.model_fields}
    strangers = set(tree) - set(shared) - set(own)
    if strangers:
        known = [*Request.model_fields, *configs.Config.model_fields]
        name = min(strangers)
        message = f"compare: {name} is not a known key.{nearest(name, known)}"
        raise ConfigError(message)
    common = {key: value for key, value in shared.items() if key not in Request.model_fields}
    if "method" in common:
        message = "compare: method would hold for every method; write it below one: NAME:method.rank=8"
        raise ConfigError(message)
    common = configs.merge(common, own.pop("common", {}))
    try:
        return Request.model_validate({**own, "methods": methods, "common": common})
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Request, "compare"))) from None


def read(recipe: str | Path) -> dict[str, Any]:
    """Read a recipe of a comparison.

    Raises:
        ConfigError: It is no YAML mapping, or a recipe for a single run.
    """
    tree = configs.read_yaml(recipe)
    if "methods" not in tree:
        message = f"{recipe}: there is no methods: in it. A recipe for one run is started with brushwork train {recipe}"
        raise ConfigError(message)
    return tree


def listed(text: str) -> dict[str, str]:
    """Read ``full,dora=lora+method.use_dora=true`` into what each name stands for.

    Raises:
        ConfigError: A name is empty or there twice.
    """
    found: dict[str, str] = {}
    for item in _items(text):
        first = MORE.split(item)[0]
        name, named, _ = first.partition("=")
        key, what = (name.strip(), item.partition("=")[2].strip()) if named else (first.strip(), item.strip())
        if not NAME.fullmatch(key) or key in found or not what:
            reason = "is there twice; name one of them: NAME=PRESET+key.path=value" if key in found else "is no name"
            message = f"--methods: {key!r} {reason}."
            raise ConfigError(message)
        found[key] = what
    return found


def _items(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    items, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items]


def _methods(given: Any) -> dict[str, dict[str, Any]]:
    """Return a preset and keys of its own for each name."""
    if isinstance(given, str):
        given = listed(given)
    if not isinstance(given, dict):
        given = listed(",".join(map(str, given)))
    methods = {}
    for name, what in given.items():
        tree: dict[str, Any] = {}
        if isinstance(what, str):
            preset, *more = MORE.split(what)
            tree = {"preset": preset.strip()}
            for text in more:
                tree = configs.merge(tree, configs.parse_override(text))
        else:
            tree = {"preset": name, **(what or {})}
        if tree["preset"] not in configs.presets():
            message = (
                f"--methods: there is no method {tree['preset']!r}.{nearest(str(tree['preset']), configs.presets())}"
            )
            raise ConfigError(message)
        methods[str(name)] = tree
    return methods
