"""LoRA: low-rank updates beside frozen layers (Hu et al. 2021, arXiv:2106.09685), through peft."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

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
ADAPTER = "brushwork"


class Config(PluginSettings):
    """Settings of LoRA; the update is ``alpha / rank * B A``."""

    type: Literal["lora"] = "lora"
    rank: PositiveInt = Field(16, description="The inner dimension of the update: size and capacity.")
    alpha: PositiveFloat | None = Field(None, description="Default: the rank, so that the update is not rescaled.")
    targets: tuple[str, ...] = Field(ATTENTION, description="Ends of the names of the denoiser's layers.")
    dropout: float = Field(0.0, ge=0, lt=1, description="The share of the layers' inputs the update does not see.")
    train_text_encoder: bool = Field(default=False, description="Train the text encoders too.")
    text_encoder_lr: PositiveFloat | None = Field(None, description="Their own rate; default: the optimizer's.")
    text_encoder_targets: tuple[str, ...] = Field(
        TEXT_ATTENTION, description="Ends of the names of the text encoders' layers."
    )

    def build(self) -> Lora:
        """Build the method."""
        return Lora(self)


class Lora:
    """Trains two small matrices beside each target layer."""

    artefact = "pytorch_lora_weights.safetensors"
    updates_base = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self.trains: frozenset[Trained] = frozenset(
            ("denoiser", "text_encoder") if config.train_text_encoder else ("denoiser",)
        )
        self._adapted: dict[str, Any] = {}

    def attach(self, family: Family, seed: int) -> list[ParameterGroup]:
        """Add the adapter to the denoiser, and to the text encoders if asked."""
        import torch

        modules: dict[str, tuple[Any, tuple[str, ...], float | None]] = {
            "denoiser": (family.denoiser, self.config.targets, None)
        }
        if self.config.train_text_encoder:
            for name, encoder in family.text_encoders.items():
                modules[name] = (encoder, self.config.text_encoder_targets, self.config.text_encoder_lr)
        groups = []
        for name, (module, targets, learning_rate) in modules.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(seed, "lora", name))
                self._add(module, name, targets)
            trained = {key: each for key, each in module.named_parameters() if f".{ADAPTER}." in key}
            for parameter in trained.values():
                parameter.data = parameter.data.float()
            self._adapted[name] = module
            groups.append(ParameterGroup(name, trained, learning_rate))
        return groups

    def _add(self, module: Any, name: str, targets: tuple[str, ...]) -> None:
        from peft import LoraConfig

        layers = [f".{key}" for key, _ in module.named_modules()]
        unmatched = [each for each in targets if not any(layer.endswith(f".{each}") for layer in layers)]
        if unmatched:
            field = "method.targets" if name == "denoiser" else "method.text_encoder_targets"
            linear = sorted({_short(key) for key, each in module.named_modules() if type(each).__name__ == "Linear"})
            message = (
                f"{field}: no layer's name ends in {', '.join(unmatched)}. Linear layers here: {', '.join(linear)}."
            )
            raise ConfigError(message)
        module.add_adapter(
            LoraConfig(
                r=self.config.rank,
                lora_alpha=self.config.alpha or self.config.rank,
                lora_dropout=self.config.dropout,
                init_lora_weights="gaussian",
                target_modules=list(targets),
            ),
            adapter_name=ADAPTER,
        )

    def save(self, family: Family, folder: Path) -> None:
        """Write ``pytorch_lora_weights.safetensors``, keys in peft's form, the adapter's settings in its header."""
        from peft.utils import get_peft_model_state_dict

        layers: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        for name, module in self._adapted.items():
            part = family.denoiser_name if name == "denoiser" else name
            # Not convert_state_dict_to_diffusers: with targets beyond attention it mixes two forms of keys, and plain
            # diffusers then drops the attention layers with no more than a warning.
            layers[f"{part}_lora_layers"] = get_peft_model_state_dict(module, adapter_name=ADAPTER)
            settings = module.peft_config[ADAPTER].to_dict()
            # A path of this machine is nobody's business; a set would be written in a different order each time.
            settings |= {"base_model_name_or_path": None, "target_modules": sorted(settings["target_modules"])}
            metadata[f"{part}_lora_adapter_metadata"] = settings
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


def _short(key: str) -> str:
    """Return the end of a layer's name that identifies its role: ``to_out.0`` rather than ``0``."""
    parts = key.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
