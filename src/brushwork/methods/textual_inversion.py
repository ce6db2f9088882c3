"""Textual Inversion: a new word is learnt, nothing else (Gal et al. 2022, arXiv:2208.01618, section 3).

The usual script gives the optimizer the whole table of the text encoder and puts every other row back after each step;
here the new rows are a parameter of their own, so there is nothing to put back and no state for the rest.
A base with several text encoders gets rows in each that is CLIP's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from brushwork import embeddings
from brushwork.config import PluginSettings
from brushwork.errors import ConfigError
from brushwork.values import ParameterGroup, Trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from brushwork.values import Family

TOKEN = Field(
    "<concept>",
    pattern=r"^[^\sA-Z]+$",
    description="The new word, in lower case; captions and prompts are written with it.",
)
VECTORS = Field(1, description="How many rows it has: more hold more, and take more of the prompt's 77 tokens.")
INITIAL = Field(
    None,
    min_length=1,
    description="A word that the base knows, from which it starts, or as many as vectors. Default: the mean of all.",
)


class Config(PluginSettings):
    """Settings of Textual Inversion."""

    type: Literal["textual_inversion"] = "textual_inversion"
    token: str = TOKEN
    num_vectors: PositiveInt = VECTORS
    initial_word: str | None = INITIAL

    def build(self) -> TextualInversion:
        """Build the method."""
        return TextualInversion(self)


class TextualInversion:
    """Trains the rows of one new word."""

    artefact = embeddings.WEIGHT_NAME
    updates_base = False
    trains: frozenset[Trained] = frozenset({"embeddings"})

    def __init__(self, config: Config, learning_rate: float | None = None) -> None:
        self.config, self.token, self.learning_rate = config, config.token, learning_rate
        self._rows: dict[str, nn.Parameter] = {}
        self._initial: dict[str, Tensor] = {}

    def attach(self, family: Family, seed: int) -> list[ParameterGroup]:  # noqa: ARG002  (nothing is random here)
        """Give every CLIP text encoder the new rows.

        Raises:
            UserError: Nothing would read the word, or the base has it already, or the initial word is none.
        """
        pipeline = type(family.pipeline())
        if not hasattr(pipeline, "load_textual_inversion"):
            message = (
                f"method: diffusers' {pipeline.__name__} reads no learnt words, so {self.config.type} would make "
                f"something that nothing loads. Use lora."
            )
            raise ConfigError(message)
        parts = embeddings.readers(family)
        if not parts:
            message = (
                f"method: {self.config.type} learns a word for CLIP's text encoders; this base has none. Use lora."
            )
            raise ConfigError(message)
        starts = {part: self._start(family.text_encoders[part], family.tokenizers[part]) for part in parts}
        self._rows = {part: embeddings.extend(family, part, self.token, start) for part, start in starts.items()}
        self._initial = {part: rows.detach().clone() for part, rows in self._rows.items()}
        return [ParameterGroup("embeddings", dict(self._rows), self.learning_rate)]

    def _start(self, encoder: Any, tokenizer: Any) -> Tensor:
        """Return the first values, (vectors, width).

        Raises:
            ConfigError: The word is one of the base's, or the initial word neither one token nor one for each vector.
        """
        if len(read := tokenizer.tokenize(self.token)) == 1 and read[0] != tokenizer.unk_token:
            message = (
                f"method.token: {self.token!r} is a word of this base already, which would lose its meaning. Choose "
                f"another, such as <{self.token}-1>."
            )
            raise ConfigError(message)
        table: Tensor = encoder.get_input_embeddings().weight.detach().float()
        count, word = self.config.num_vectors, self.config.initial_word
        if word is None:
            return table.mean(0, keepdim=True).expand(count, -1)
        ids = tokenizer(word, add_special_tokens=False).input_ids
        if len(ids) not in (1, count):
            pieces = ", ".join(repr(piece) for piece in tokenizer.convert_ids_to_tokens(ids))
            message = (
                f"method.initial_word: {word!r} is {len(ids)} tokens in this base ({pieces}), but there "
                f"{'is 1 vector' if count == 1 else f'are {count} vectors'}.\n"
                f"Name a word of one token, or set method.num_vectors={len(ids)}."
            )
            raise ConfigError(message)
        return table[ids].expand(count, -1)

    def save(self, family: Family, folder: Path) -> None:
        """Write one tensor under the word, as diffusers does; of several encoders' rows each under its own key."""
        assert self._rows, "attach comes first"
        alone = len(family.text_encoders) == 1
        embeddings.write(folder / self.artefact, self.token, self._rows, alone=alone)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """For a while let the word mean what it started from."""
        assert self._rows, "attach comes first"
        learnt = {part: rows.data for part, rows in self._rows.items()}
        for part, rows in self._rows.items():
            rows.data = self._initial[part]
        try:
            yield
        finally:
            for part, rows in self._rows.items():
                rows.data = learnt[part]
