"""Forecasts of published bases without their weights: the real architectures, made without numbers.

    forecast = rehearse("flux.1-dev", method="lora", resolution=1024, batch=1, precision="bf16")

Each file in ``shapes/`` holds the settings that a base was published with and how many parameters each part then has.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from brushwork import config as configs
from brushwork import offload, quantization, registry
from brushwork.errors import ConfigError, nearest
from brushwork.forecast import disk, estimate
from brushwork.forecast.tracking import stage
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from brushwork.config import Config
    from brushwork.train import Trainer
    from brushwork.values import Family

SHAPES = Path(__file__).parent / "shapes"


def names() -> list[str]:
    """Return the bases whose shapes are known."""
    return sorted(path.stem for path in SHAPES.glob("*.json"))


def shape(name: str) -> dict[str, Any]:
    """Return what is known of a base.

    Raises:
        ConfigError: Nothing is.
    """
    path = SHAPES / f"{name}.json"
    if not path.is_file():
        message = f"base: no shapes of {name!r} are known.{nearest(name, names())} Known: {', '.join(names())}."
        raise ConfigError(message)
    return dict(json.loads(path.read_text("utf-8")))


def make(name: str, dtype: Any) -> Family:
    """Return a base's family of the real size and without numbers; within ``stage`` only."""
    said = shape(name)
    with _default(dtype):
        parts: dict[str, Any] = {part: _module(each["class"], each["config"]) for part, each in said["parts"].items()}
    parts |= {part.replace("text_encoder", "tokenizer"): _NoTokenizer() for part in said["parts"] if "text_" in part}
    module = registry.load("families", said["family"])
    family = getattr(module, said["class"])(
        {**parts, "scheduler": said["scheduler"]}, "cpu", **said.get("arguments", {})
    )
    family.encode_text = _states(said["conditioning"], dtype)
    return cast("Family", family)


@contextlib.contextmanager
def _default(dtype: Any) -> Iterator[None]:
    """Within this context modules are made in a type (without numbers they cannot be cast afterwards)."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _module(kind: str, config: dict[str, Any]) -> Any:
    import diffusers
    import transformers

    if hasattr(diffusers, kind):
        return getattr(diffusers, kind)(**config)
    made = getattr(transformers, kind)
    return made(made.config_class(**config))


class _NoTokenizer:
    """Stands where a tokenizer would: a base without weights reads no texts."""

    model_max_length = 77

    def get_vocab(self) -> dict[str, int]:
        """Return no words."""
        return {}


def _states(shapes: dict[str, list[int]], dtype: Any) -> Callable[[Sequence[str]], Conditioning]:
    def encode(captions: Sequence[str]) -> Conditioning:
        import torch

        return Conditioning({name: torch.zeros(len(captions), *size, dtype=dtype) for name, size in shapes.items()})

    return encode


def rehearse(
    name: str, *, method: str = "lora", resolution: int | None = None, overrides: Sequence[str] = (), budget: int = 0
) -> estimate.Forecast:
    """Return the memory that training a published base takes on an accelerator, its own libraries apart.

    Args:
        name: One of ``names()``.
        method: A preset.
        resolution: Pixels a side; default: the base's.
        overrides: ``key.path=value`` texts.
        budget: What the accelerator has, in bytes; 0: not said, and everything fits.
    """
    size = {"path": "unnamed", "resolution": resolution or shape(name)["resolution"]}
    asked = configs.load(
        {"train": {"train_batch_size": 1, "mixed_precision": "bf16"}}, method=method, base=name, data=size,
        optimizer={"learning_rate": 1e-4}, overrides=list(overrides),
    )  # fmt: skip
    return of_config(name, asked, budget)


def of_recipe(path: Path, overrides: Sequence[str] = (), budget: int = 0) -> estimate.Forecast:
    """Return what a recipe for a published base takes on an accelerator; see ``rehearse``.

    Raises:
        ConfigError: The shapes of its base are not known.
    """
    asked = configs.load(path, overrides=list(overrides))
    every = {shape(name)["source"]: name for name in names()}
    if asked.base not in every:
        message = (
            f"{path}: no shapes of its base {asked.base!r} are known.{nearest(asked.base, every)} "
            f"Known: {', '.join(every)}. When it is here: brushwork train {path} --dry-run"
        )
        raise ConfigError(message)
    return of_config(every[asked.base], asked, budget)


def of_config(name: str, asked: Config, budget: int = 0) -> estimate.Forecast:
    """Return what a run with a base of ``names()`` takes on an accelerator; see ``rehearse``."""
    import torch

    said = shape(name)
    if asked.train.base_quantization in ("8bit", "nf4"):
        message = "train.base_quantization: without the weights nothing can be quantised. Leave it out here."
        raise ConfigError(message)
    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[asked.train.mixed_precision]
    built = asked.method.build()
    with stage():
        family = make(name, torch.float32 if built.updates_base else dtype)
        if asked.train.base_quantization != "none":
            quantization.freeze(family.denoiser, asked.train.base_quantization, "cpu")
        groups = built.attach(family, 0)
        named = {f"{group.name}.{key}": each for group in groups for key, each in group.parameters.items()}
        trainer = cast("Trainer", SimpleNamespace(
            config=asked, family=family, method=built, named=named, device="cpu", dtype=dtype,
            data=SimpleNamespace(rejected=[]),
        ))  # fmt: skip
        phases = _phases(trainer)
        checkpoint = disk.checkpoint(trainer)
    peak = max(phase.total for phase in phases)
    made = sum(each.numel() * estimate.FLOAT for each in named.values())
    written = {"weights to fetch": _weights(said) * 2, "each checkpoint": checkpoint, "what is made": made}
    return estimate.Forecast("accelerator", phases, written, budget or peak, "CUDA's own half gigabyte")


def _weights(said: dict[str, Any]) -> int:
    return sum(int(part["parameters"]) for part in said["parts"].values())


def _phases(trainer: Trainer) -> tuple[estimate.Phase, ...]:
    """Return encoding with all parts there, and training with the text encoders freed where nothing needs them."""
    standing, config = estimate.standing(trainer), trainer.config
    encoding = estimate.Phase("encoding", {**standing, "activations": estimate.image_peak(trainer)})
    needed = trainer.method.updates_base or trainer.method.trains & {"text_encoder", "embeddings"}
    free = config.train.free_text_encoders is not False and not needed
    away = offload.sizes(trainer.family.denoiser, config.train.blocks_to_swap)
    name = trainer.family.denoiser_name
    standing = {**standing, name: standing[name] - sum(away), "blocks on their way": 2 * max(away, default=0)}
    left = {name: size for name, size in standing.items() if not (free and name.startswith("text_encoder"))}
    step = estimate.step_peak(trainer, config.train.batch, checkpointing=config.train.gradient_checkpointing)
    gradients, activations = estimate.split(trainer, step)
    kept = {name: size for name, size in estimate.kept(trainer).items() if name != "the base's copy"}
    during = {**left, **kept, "gradients": gradients, "activations": activations}
    return encoding, estimate.Phase("training", during)
