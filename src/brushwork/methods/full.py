"""Full fine-tuning: every weight of the denoiser, and of the text encoders if asked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, model_validator

from brushwork.config import PluginSettings
from brushwork.errors import ConfigError
from brushwork.values import ParameterGroup, Trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.values import Family


class Config(PluginSettings):
    """Settings of full fine-tuning."""

    type: Literal["full"] = "full"
    train_text_encoder: bool = Field(default=False, description="Train the text encoders too.")
    text_encoder_lr: PositiveFloat | None = Field(None, description="Their own rate; default: the optimizer's.")
    keep_base: bool = Field(
        default=False, description="Keep a copy of the base's weights, for comparisons while training."
    )

    @model_validator(mode="after")
    def _honoured(self) -> Config:
        self._refuse_changed("train_text_encoder is false", self.train_text_encoder, "text_encoder_lr")
        return self

    def build(self) -> Full:
        """Build the method."""
        return Full(self)


class Full:
    """Trains the weights themselves."""

    artefact = ""
    updates_base = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self.trains: frozenset[Trained] = frozenset(
            ("denoiser", "text_encoder") if config.train_text_encoder else ("denoiser",)
        )
        self._trained: list[nn.Parameter] = []
        self._base: list[Tensor] = []

    def attach(self, family: Family, seed: int) -> list[ParameterGroup]:  # noqa: ARG002  (nothing is random here)
        """Let every weight require gradients."""
        groups = [ParameterGroup("denoiser", dict(family.denoiser.named_parameters()))]
        if self.config.train_text_encoder:
            groups += [
                ParameterGroup(name, dict(encoder.named_parameters()), self.config.text_encoder_lr)
                for name, encoder in family.text_encoders.items()
            ]
        for group in groups:
            for parameter in group.parameters.values():
                parameter.requires_grad_(True)  # noqa: FBT003  (torch's own name)
        self._trained = [parameter for group in groups for parameter in group.parameters.values()]
        if self.config.keep_base:
            self._base = [parameter.detach().cpu().clone() for parameter in self._trained]
        return groups

    def save(self, family: Family, folder: Path) -> None:
        """Write the whole model as a diffusers pipeline folder."""
        family.save(folder)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Put the base's weights back for a while.

        Raises:
            ConfigError: ``keep_base`` is off.
        """
        if not self._base:
            message = "method: full keeps no copy of the base to compare with. Set method.keep_base=true, or use lora."
            raise ConfigError(message)
        tuned = [parameter.data for parameter in self._trained]
        for parameter, base in zip(self._trained, self._base, strict=True):
            parameter.data = base.to(parameter.device)
        try:
            yield
        finally:
            for parameter, data in zip(self._trained, tuned, strict=True):
                parameter.data = data
