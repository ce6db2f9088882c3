"""Pivotal tuning: a new word and a LoRA are learnt together (after Roich et al. 2021, arXiv:2106.05744).

The word says which subject is meant, the LoRA what the word alone cannot say; each has its own rate and its own file.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from brushwork.config import PluginSettings
from brushwork.methods import textual_inversion
from brushwork.methods.lora import Config as LoraConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brushwork.values import Family, ParameterGroup, Trained


class Config(PluginSettings):
    """Settings of pivotal tuning."""

    type: Literal["pivotal"] = "pivotal"
    token: str = textual_inversion.TOKEN
    num_vectors: PositiveInt = textual_inversion.VECTORS
    initial_word: str | None = textual_inversion.INITIAL
    embedding_lr: PositiveFloat | None = Field(None, description="The word's own rate. null: by rule.")
    lora: LoraConfig = Field(LoraConfig(), description="The settings of `method: {type: lora}`.")

    def build(self) -> Pivotal:
        """Build the method."""
        return Pivotal(self)


class Pivotal:
    """Trains the rows of one new word and a LoRA."""

    artefact = ""
    updates_base = False

    def __init__(self, config: Config) -> None:
        word = textual_inversion.Config(
            token=config.token, num_vectors=config.num_vectors, initial_word=config.initial_word
        )
        self.word = textual_inversion.TextualInversion(word, config.embedding_lr)
        self.lora = config.lora.build()
        self.token = config.token
        self.trains: frozenset[Trained] = self.word.trains | self.lora.trains

    def attach(self, family: Family, seed: int) -> list[ParameterGroup]:
        """Add the adapter, then the word: peft freezes whatever is there before it."""
        return [*self.lora.attach(family, seed), *self.word.attach(family, seed)]

    def save(self, family: Family, folder: Path) -> None:
        """Write both files, each as plain diffusers loads it."""
        self.word.save(family, folder)
        self.lora.save(family, folder)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Switch the adapter off and let the word mean what it started from."""
        with self.word.disabled(), self.lora.disabled():
            yield
