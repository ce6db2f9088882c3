"""LoRA: low-rank updates beside frozen layers (Hu et al. 2021, arXiv:2106.09685), through peft; and its relatives.

DoRA (Liu et al. 2024, arXiv:2402.09353), rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732), LoHa
(Hyeon-Woo et al. 2021, arXiv:2108.06098), LoKr (Yeh et al. 2023, arXiv:2309.14859), OFT (Qiu et al. 2023,
arXiv:2306.07280).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from brushwork import peft_files
from brushwork.checkpoints import sort_header
from brushwork.config import PluginSettings
from brushwork.errors import ConfigError
from brushwork.seeds import derive
from brushwork.values import ParameterGroup, Trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brushwork.values import Family

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
ADAPTER = "brushwork"
RANK, BLOCK = 16, 32
"""The rank where none was given or chosen, and OFT's block."""
ONLY: dict[str, tuple[str, ...]] = {
    "rank": ("lora", "loha", "lokr"),
    "alpha": ("lora", "loha", "lokr"),
    "conv_rank": ("lora", "loha", "lokr"),
    "dropout": ("lora",),
    "use_dora": ("lora",),
    "use_rslora": ("lora",),
    "lokr_factor": ("lokr",),
    "oft_block_size": ("oft",),
}
"""Which kinds a setting belongs to."""


class Config(PluginSettings):
    """Settings of LoRA; the update is ``alpha / rank * B A``."""

    type: Literal["lora"] = "lora"
    kind: Literal["lora", "loha", "lokr", "oft"] = Field(
        "lora", description="What lies beside each layer; only lora (with use_dora or not) is read by plain diffusers."
    )
    rank: PositiveInt | None = Field(
        None, description="The inner dimension of the update: size and capacity. null: by rule."
    )
    alpha: PositiveFloat | None = Field(None, description="Default: the rank, so that the update is not rescaled.")
    targets: tuple[str, ...] = Field(ATTENTION, description="Ends of the names of the denoiser's layers.")
    conv_rank: PositiveInt | None = Field(
        None, description="Adapt the convolutions of the ResNet blocks too, with this rank and alpha in proportion."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="The share of the layers' inputs the update does not see.")
    use_dora: bool = Field(default=False, description="DoRA: each output's magnitude is trained on its own.")
    use_rslora: bool = Field(default=False, description="Scale by alpha / sqrt(rank): for high ranks.")
    lokr_factor: int = Field(-1, ge=-1, description="The size of LoKr's first factor at most; -1: the most even split.")
    oft_block_size: PositiveInt = Field(
        BLOCK,
        description="The side of OFT's rotations, which must divide the widths of the layers; the default gives way to "
        "the nearest that does. Larger: more capacity.",
    )
    train_text_encoder: bool = Field(default=False, description="Train the text encoders too.")
    text_encoder_lr: PositiveFloat | None = Field(None, description="Their own rate; default: the optimizer's.")
    text_encoder_targets: tuple[str, ...] = Field(
        TEXT_ATTENTION, description="Ends of the names of the text encoders' layers."
    )

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Config:
        fields = type(self).model_fields
        changed = [name for name in ONLY if getattr(self, name) != fields[name].default]
        wrong = [name for name in changed if self.kind not in ONLY[name]]
        if wrong:
            message = f"kind is {self.kind}, so {' and '.join(wrong)} cannot apply"
            raise ValueError(message)
        text = ("text_encoder_lr", "text_encoder_targets")
        self._refuse_changed("train_text_encoder is false", self.train_text_encoder, *text)
        if self.lokr_factor == 0:
            message = "lokr_factor is 0, and no factor of a matrix can be so small; take -1 or 1 and more"
            raise ValueError(message)
        if self.kind in ("loha", "lokr") and self.alpha is not None and self.alpha != int(self.alpha):
            message = f"kind is {self.kind}, whose alpha is a whole number; it is {self.alpha}"
            raise ValueError(message)
        return self

    @property
    def has_rank(self) -> bool:
        """Whether this kind has a rank at all."""
        return self.kind in ONLY["rank"]

    def build(self) -> Lora:
        """Build the method."""
        return Lora(self)


class Lora:
    """Trains a few small matrices beside each target layer."""

    updates_base = False

    def __init__(self, config: Config) -> None:
        self.config = config
        # peft's DoRA cannot take the norm of layers of 8 bits.
        self.takes_quantized = () if config.kind != "lora" else ("nf4",) if config.use_dora else ("8bit", "nf4", "fp8")
        self.artefact = "pytorch_lora_weights.safetensors" if config.kind == "lora" else peft_files.NAME
        self.trains: frozenset[Trained] = frozenset(
            ("denoiser", "text_encoder") if config.train_text_encoder else ("denoiser",)
        )
        self._adapted: dict[str, Any] = {}

    def attach(self, family: Family, seed: int) -> list[ParameterGroup]:
        """Add the adapter to the denoiser, and to the text encoders if asked."""
        import torch

        modules: dict[str, tuple[Any, tuple[str, ...], float | None]] = {
            "denoiser": (family.denoiser, self.config.targets + self._convolutions(family.denoiser), None)
        }
        if self.config.train_text_encoder:
            for name, encoder in _readable(family, self.config.kind).items():
                modules[name] = (encoder, self.config.text_encoder_targets, self.config.text_encoder_lr)
        groups = []
        for name, (module, targets, learning_rate) in modules.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(seed, "lora", name))
                self._add(module, name, targets)
            trained = {key: each for key, each in module.named_parameters() if ADAPTER in key.split(".")}
            for parameter in trained.values():
                parameter.data = parameter.data.float()
            self._adapted[name] = module
            groups.append(ParameterGroup(name, trained, learning_rate))
        return groups

    def _convolutions(self, module: Any) -> tuple[str, ...]:
        """Return the ends of the names of the convolutions to adapt besides the targets."""
        if self.config.conv_rank is None:
            return ()
        names = {key.rpartition(".")[2] for key, each in module.named_modules() if type(each).__name__ == "Conv2d"}
        found = tuple(each for each in CONVOLUTIONS if each in names and each not in self.config.targets)
        if not found:
            message = f"method.conv_rank: this base has no convolutions called {', '.join(CONVOLUTIONS)} to adapt."
            raise ConfigError(message)
        return found

    def _add(self, module: Any, name: str, targets: tuple[str, ...]) -> None:
        layers = [f".{key}" for key, _ in module.named_modules()]
        unmatched = [each for each in targets if not any(layer.endswith(f".{each}") for layer in layers)]
        if unmatched:
            field = "method.targets" if name == "denoiser" else "method.text_encoder_targets"
            linear = sorted({_short(key) for key, each in module.named_modules() if type(each).__name__ == "Linear"})
            message = (
                f"{field}: no layer's name ends in {', '.join(unmatched)}. Linear layers here: {', '.join(linear)}."
            )
            raise ConfigError(message)
        if self.config.kind == "oft":
            _check_block(self.config.oft_block_size, module, targets)
        with warnings.catch_warnings():
            # Where the default does not divide a layer's width, peft takes the nearest that does, and says so.
            warnings.filterwarnings("ignore", "Invalid `oft_block_size`")
            module.add_adapter(self._peft_config(targets), adapter_name=ADAPTER)

    def _peft_config(self, targets: tuple[str, ...]) -> Any:
        import peft

        config, layers = self.config, list(targets)
        if config.kind == "oft":
            return peft.OFTConfig(oft_block_size=config.oft_block_size, r=0, target_modules=layers)
        rank = config.rank or RANK
        alpha = config.alpha or rank
        patterns: dict[str, Any] = {}
        if config.conv_rank is not None:
            ends = [each for each in targets if each in CONVOLUTIONS]
            patterns = {
                "rank_pattern": dict.fromkeys(ends, config.conv_rank),
                "alpha_pattern": dict.fromkeys(ends, alpha * config.conv_rank / rank),
            }
        if config.kind == "loha":
            return peft.LoHaConfig(r=rank, alpha=int(alpha), target_modules=layers, **patterns)
        if config.kind == "lokr":
            factor = config.lokr_factor
            return peft.LoKrConfig(r=rank, alpha=int(alpha), decompose_factor=factor, target_modules=layers, **patterns)
        return peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=config.dropout,
            init_lora_weights="gaussian",
            target_modules=layers,
            use_dora=config.use_dora,
            use_rslora=config.use_rslora,
            **patterns,
        )

    def save(self, family: Family, folder: Path) -> None:
        """Write the adapter's file, keys in peft's form, the adapter's settings in its header.

        For LoRA and DoRA it is ``pytorch_lora_weights.safetensors``, which diffusers loads; else see ``peft_files``.
        """
        from peft.utils import get_peft_model_state_dict

        parts = {family.denoiser_name if name == "denoiser" else name: each for name, each in self._adapted.items()}
        if self.config.kind != "lora":
            peft_files.save(folder / self.artefact, {part: (module, ADAPTER) for part, module in parts.items()})
            return
        layers: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        for part, module in parts.items():
            # Not convert_state_dict_to_diffusers: with targets beyond attention it mixes two forms of keys, and plain
            # diffusers then drops the attention layers with no more than a warning.
            layers[f"{part}_lora_layers"] = get_peft_model_state_dict(module, adapter_name=ADAPTER)
            metadata[f"{part}_lora_adapter_metadata"] = peft_files.settings(module, ADAPTER)
        type(family.pipeline()).save_lora_weights(folder, safe_serialization=True, **layers, **metadata)
        sort_header(folder / self.artefact)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Switch the adapter off for a while."""
        for module in self._adapted.values():
            module.disable_adapters()
        try:
            yield
        finally:
            for module in self._adapted.values():
                module.enable_adapters()


def _check_block(size: int, module: Any, targets: tuple[str, ...]) -> None:
    """Refuse a side of OFT's rotations that somebody chose and that peft would change.

    Raises:
        ConfigError: It does not divide the width of every layer.
    """
    ends = tuple(f".{each}" for each in targets)
    widths = {each.weight[0].numel() for key, each in module.named_modules() if f".{key}".endswith(ends)}
    if size != BLOCK and any(width % size for width in widths):
        message = (
            f"method.oft_block_size is {size}, but the layers here are {', '.join(map(str, sorted(widths)))} wide, "
            f"which it must divide. Take {math.gcd(*widths)} or one that divides it."
        )
        raise ConfigError(message)


def _readable(family: Family, kind: str) -> dict[str, Any]:
    """Return the text encoders whose LoRA diffusers reads.

    Raises:
        ConfigError: There is none.
    """
    pipeline = type(family.pipeline())
    known = getattr(pipeline, "_lora_loadable_modules", ()) if kind == "lora" else tuple(family.text_encoders)
    found = {name: each for name, each in family.text_encoders.items() if name in known}
    if not found:
        message = (
            f"method.train_text_encoder: diffusers' {pipeline.__name__} reads no LoRA of this base's text encoder "
            f"({family.name}), so it would do nothing elsewhere. Leave it out."
        )
        raise ConfigError(message)
    return found


def _short(key: str) -> str:
    """Return the end of a layer's name that identifies its role: ``to_out.0`` rather than ``0``."""
    parts = key.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
