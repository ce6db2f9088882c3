"""The configuration: one frozen, typed tree; YAML in, YAML out; unknown keys are errors.

    config = load("recipe.yaml", overrides=["method.rank=8", "seed=1"])
    print(to_yaml(config))

The parts that are plug-ins (``method``, ``data``, ``objective``) are named by their ``type`` and validated by the
``Config`` class of that plug-in's module, so their fields and defaults live beside the code that they configure.
"""

from __future__ import annotations

import abc
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from brushwork import registry
from brushwork.errors import ConfigError, nearest
from brushwork.explain import PartError, explain
from brushwork.settings import OptimizerConfig, PreserveConfig, Sampling, Settings, TrainConfig, ValidationConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yaml import SafeLoader
else:
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast

PRESETS = Path(__file__).parent / "presets"


class PluginSettings(Settings):
    """The settings of a plug-in; its module's ``Config`` derives from this and knows how to build it."""

    type: str

    @abc.abstractmethod
    def build(self) -> Any:
        """Build what these settings describe."""

    def _refuse_changed(self, because: str, apply: bool, *names: str) -> None:  # noqa: FBT001
        """Refuse settings that would have no effect, for the validators of plug-ins."""
        fields = type(self).model_fields
        changed = [name for name in names if getattr(self, name) != fields[name].default]
        if changed and not apply:
            message = f"{because}, so {' and '.join(changed)} cannot apply"
            raise ValueError(message)


def _plugin(axis: registry.Axis) -> Any:
    """Annotate a field whose ``type`` key names a module of ``axis`` that validates the rest."""

    def choose(value: object) -> object:
        if isinstance(value, PluginSettings):
            return value
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            message = f"needs a type, one of {', '.join(registry.names(axis))}"
            raise ValueError(message)  # noqa: TRY004  (pydantic wants a ValueError)
        model = registry.load(axis, value["type"]).Config
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise PartError(model, error) from None

    return Annotated[SerializeAsAny[PluginSettings], BeforeValidator(choose)]


if TYPE_CHECKING:
    MethodPart = PluginSettings
    SourcePart = PluginSettings
    ObjectivePart = PluginSettings
else:
    MethodPart, SourcePart, ObjectivePart = _plugin("methods"), _plugin("sources"), _plugin("objectives")


class Config(Settings):
    """Everything that determines a run. The same keys in YAML, in ``key.path=value`` and in Python."""

    base: str = Field("mini", description="A hub id, a diffusers folder, a .safetensors file, or mini.")
    revision: str | None = Field(None, description="The hub revision of the base.")
    name: str | None = Field(None, description="A word for the run folder's name; default: the method.")
    base_config: str | None = Field(
        None,
        description="Where a single file's configs and tokenizer come from: a folder or hub id; default: inferred.",
    )
    method: MethodPart = Field(description="What is trained.")
    data: SourcePart = Field(description="What it is trained on.")
    objective: ObjectivePart = Field(description="What is minimised.")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="How the weights are updated.")
    train: TrainConfig = Field(TrainConfig(), description="How long and how the loop runs.")
    validation: ValidationConfig = Field(ValidationConfig(), description="What is drawn and measured.")
    preserve: PreserveConfig | None = Field(
        None, description="Train on pictures of the base's own drawing too, so that it forgets less; null: do not."
    )
    seed: NonNegativeInt = Field(0, description="Decides everything random: order, flips, noise, initial weights.")

    @property
    def sampling(self) -> Sampling:
        """How the tuned model is drawn: as its objective asks, else as the base is."""
        return getattr(self.objective, "sampling", None) or self.base_sampling

    @property
    def base_sampling(self) -> Sampling:
        """How the base is drawn: as ``validation`` says."""
        asked = self.validation
        return Sampling(asked.sampler, asked.num_inference_steps, asked.guidance_scale)

    @model_validator(mode="before")
    @classmethod
    def _say_the_token_once(cls, tree: Any) -> Any:
        """Give the method's token to a source that writes captions with one."""
        method, data = (tree.get(key) if isinstance(tree, dict) else None for key in ("method", "data"))
        if not isinstance(method, dict) or not isinstance(data, dict):
            return tree
        token = method.get("token")
        return {**tree, "data": _told(data, token)} if token else tree

    @model_validator(mode="after")
    def _steered_away_by_guidance(self) -> Config:
        for sampling in (self.base_sampling, self.sampling):
            if self.validation.negative_prompt and not sampling.guided:
                message = (
                    f"validation.negative_prompt steers by guidance, but pictures are drawn with {sampling}; take more "
                    f"than 1 or leave it out"
                )
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _averaged_once(self) -> Config:
        if self.optimizer.type == "schedulefree" and self.train.use_ema:
            message = "optimizer.type is schedulefree, which averages the weights itself; set train.use_ema=false"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _fused_backward_sees_one_gradient_at_a_time(self) -> Config:
        train, optimizer = self.train, self.optimizer
        if not train.fused_backward:
            return self
        if optimizer.type != "adafactor":
            message = (
                f"train.fused_backward is Adafactor's, and optimizer.type is {optimizer.type}; set it to adafactor"
            )
        elif optimizer.max_grad_norm is not None:
            message = (
                "train.fused_backward updates the first weight before the last gradient is there, so their joint norm "
                "cannot be limited; set optimizer.max_grad_norm=null"
            )
        elif train.gradient_accumulation_steps != 1:
            message = (
                "train.fused_backward updates in every backward pass, so nothing can be accumulated; set "
                "train.gradient_accumulation_steps=1"
            )
        elif train.mixed_precision == "fp16":
            message = (
                "train.fused_backward cannot skip a step as fp16's loss scale must; set train.mixed_precision=bf16"
            )
        else:
            return self
        raise ValueError(message)

    @model_validator(mode="after")
    def _ends_at_a_step(self) -> Config:
        if self.train.max_train_seconds is not None and self.optimizer.lr_scheduler != "constant":
            message = (
                f"optimizer.lr_scheduler is {self.optimizer.lr_scheduler}, which must know the last step, but "
                f"train.max_train_seconds ends at whatever step it is then; take constant, or max_train_steps"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Config:
        steps, warm_up = self.train.max_train_steps, self.optimizer.lr_warmup_steps or 0
        if steps is not None and warm_up > steps:
            message = f"optimizer.lr_warmup_steps is {warm_up} but train.max_train_steps is only {steps}"
            raise ValueError(message)
        decay = self.optimizer.lr_decay_steps or 0
        if steps is not None and warm_up + decay > steps:
            message = (
                f"optimizer.lr_warmup_steps and lr_decay_steps are {warm_up} and {decay}, "
                f"but train.max_train_steps is only {steps}"
            )
            raise ValueError(message)
        return self


def _told(data: Any, token: str) -> Any:
    """Return the settings of a source, or of all that are mixed, with a token where they have use for one."""
    if not isinstance(data, dict):
        return data
    if isinstance(data.get("parts"), (list, tuple)):
        return {**data, "parts": [_told(part, token) for part in data["parts"]]}
    named = data.get("type")
    known = named in registry.names("sources") and "token" in registry.load("sources", named).Config.model_fields
    return {"token": token, **data} if known else data


class _Loader(SafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (PyYAML's)
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} is given twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


def presets() -> list[str]:
    """Return the names that ``--method`` takes."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


@functools.cache
def _preset(name: str) -> str:
    if name not in presets():
        message = f"There is no method named {name!r}.{nearest(str(name), presets())}"
        raise ConfigError(message)
    return (PRESETS / f"{name}.yaml").read_text("utf-8")


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree over another; where the ``type`` of a plug-in differs, the upper part replaces the lower one."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        merged[key] = value
        if isinstance(value, dict) and isinstance(lower, dict):
            types = [part["type"] for part in (lower, value) if "type" in part]
            merged[key] = value if len(types) == 2 and types[0] != types[1] else merge(lower, value)  # noqa: PLR2004  (both)
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``method.rank=8`` into ``{"method": {"rank": 8}}``; the value is read as YAML.

    Raises:
        ConfigError: There is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        message = f"{text!r} is not an override: write key.path=value, for example method.rank=8"
        raise ConfigError(message)
    try:
        tree: Any = yaml.load(value, _Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        message = f"The value of {key} is not YAML: {value!r}. Quote it: '{key}=\"...\"'"
        raise ConfigError(message) from error
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return dict(tree)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a recipe.

    Raises:
        ConfigError: The file is missing, is not YAML, or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        siblings = [str(each) for each in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        message = f"There is no recipe {str(path)!r}.{nearest(str(path), siblings)}"
        raise ConfigError(message)
    try:
        tree = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        problem = str(getattr(error, "problem", error)).partition("\n")[0]
        message = f"{path}{line}: this cannot be read as YAML: {problem}"
        raise ConfigError(message) from error
    if not isinstance(tree, dict):
        message = f"{path}: a recipe is a mapping of keys such as base:, method:, data:"
        raise ConfigError(message)
    return tree


def load(
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    overrides: Sequence[str] = (),
    **top: Any,
) -> Config:
    """Build the configuration: defaults < preset of the method < recipe < ``top`` < ``overrides``.

    Args:
        recipe: A YAML file or the mapping in it.
        method: The name of a preset (``full``, ``lora``, ...); ``method: lora`` in a recipe means the same.
        overrides: ``key.path=value`` texts.
        top: Parts by name, such as ``base="mini"`` or ``train={"max_train_steps": 10}``; None counts as not given.

    Raises:
        ConfigError: With every wrong key and value at once.
    """
    where = str(recipe) if isinstance(recipe, (str, Path)) else "config"
    tree: dict[str, Any] = read_yaml(recipe) if isinstance(recipe, (str, Path)) else dict(recipe or {})
    named = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in top.items()}
    changes = [parse_override(each) for each in overrides]
    for change in changes if method else []:
        _refuse_another(method, change.get("method"))
    for part in [{key: value for key, value in named.items() if value is not None}, *changes]:
        tree = merge(_spell_out(tree), _spell_out(part))
    tree = _over_preset(_spell_out(tree), method)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Config, where))) from None


def _spell_out(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Write the short forms ``method: lora`` and ``data: photos/`` as the mappings that they stand for."""
    tree = dict(tree)
    if isinstance(tree.get("method"), str):
        tree["method"] = {"preset": tree["method"]}
    if isinstance(tree.get("data"), str):
        tree["data"] = {"path": tree["data"]}
    return tree


def _refuse_another(asked: str | None, part: Any) -> None:
    """Refuse an override that names another method than the one asked for, of which one would be ignored."""
    said = part.get("type") if isinstance(part, dict) else part
    ours = yaml.safe_load(_preset(asked or "lora"))["method"]["type"]
    if said not in (None, ours if isinstance(part, dict) else asked):
        key = "method.type" if isinstance(part, dict) else "method"
        message = f"--method {asked} and {key}={said} contradict each other; give one of them."
        raise ConfigError(message)


def _over_preset(tree: dict[str, Any], asked: str | None) -> dict[str, Any]:
    """Lay the tree over the preset of its method, or of the method asked for instead, whose type then wins."""
    part = tree.get("method", {})
    if isinstance(part, dict):
        named = part.get("preset", part.get("type", "lora"))
        tree = {**tree, "method": {key: value for key, value in part.items() if key != "preset"}}
        asked = asked or (named if "preset" in part or named in presets() else None)
    preset: dict[str, Any] = yaml.load(_preset(asked or "lora"), _Loader)  # noqa: S506  (a SafeLoader)
    ours, theirs = preset["method"]["type"], tree.get("method")
    if asked and isinstance(theirs, dict) and theirs.get("type", ours) != ours:
        tree = {key: value for key, value in tree.items() if key != "method"}
    return merge(preset, tree)


def to_yaml(config: Config) -> str:
    """Write the fully resolved configuration; ``load`` of it gives an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration with every plug-in's settings (for forms and editors)."""
    root = Config.model_json_schema()
    axes: dict[str, registry.Axis] = {"method": "methods", "data": "sources", "objective": "objectives"}
    for key, axis in axes.items():
        plugins = [registry.load(axis, name) for name in registry.names(axis)]
        root["properties"][key] = {"oneOf": [module.Config.model_json_schema() for module in plugins]}
    return root


__all__ = [
    "Config",
    "OptimizerConfig",
    "PluginSettings",
    "PreserveConfig",
    "Settings",
    "TrainConfig",
    "ValidationConfig",
    "load",
    "merge",
    "parse_override",
    "presets",
    "read_yaml",
    "schema",
    "to_yaml",
]
