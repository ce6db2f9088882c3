"""Long and weighted prompts for a CLIP text encoder: chunks of 75 tokens, each token with its weight.

    every = cut(weigh("a (red:1.3) dog BREAK on grass"), tokenizer)         # two chunks
    states = encode(every, tokenizer, text_encoder)                         # (1, 2 * 77, width)

As A1111 does it: a chunk that would end within 20 tokens after a comma ends at the comma, weights multiply the states
of their tokens, and the states of a chunk are then brought back to the mean that they had ("Original" emphasis). A
prompt of one chunk without weights has the very states that the pipeline's own encoding has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.embeddings import expand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from brushwork.grammar import Piece

BACKTRACK = 20


@dataclass
class Chunk:
    """Tokens without the marks of start and end, each with its weight."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, token: int, weight: float) -> None:
        """Put a token at the end."""
        self.ids.append(token)
        self.weights.append(weight)

    def split(self, place: int) -> Chunk:
        """Cut off and return what is after a place."""
        rest = Chunk(self.ids[place:], self.weights[place:])
        del self.ids[place:], self.weights[place:]
        return rest


def cut(pieces: Sequence[Piece], tokenizer: Any) -> list[Chunk]:
    """Return the chunks of a prompt, at least one."""
    room = tokenizer.model_max_length - 2
    comma = tokenizer("a,", add_special_tokens=False).input_ids[-1]
    chunks, last_comma = [Chunk()], -1
    for piece in pieces:
        if piece.text is None:
            chunks.append(Chunk())
            last_comma = -1
            continue
        text = expand(piece.text, tokenizer)
        for token in tokenizer(text, add_special_tokens=False, verbose=False).input_ids:
            if len(chunks[-1].ids) == room:
                near = last_comma >= 0 and room - last_comma - 1 <= BACKTRACK and token != comma
                chunks.append(chunks[-1].split(last_comma + 1) if near else Chunk())
                last_comma = -1
            if token == comma:
                last_comma = len(chunks[-1].ids)
            chunks[-1].add(token, piece.weight)
    return chunks


def encode(chunks: Sequence[Chunk], tokenizer: Any, text_encoder: Any, *, clip_skip: int = 1) -> Tensor:
    """Return the states of all chunks in a row, (1, chunks * length, width).

    Args:
        chunks: From ``cut``.
        tokenizer: The text encoder's own.
        text_encoder: A CLIPTextModel.
        clip_skip: 1: the last layer's states; 2: those of the layer before it, then the final norm, and so on.
    """
    import torch

    length, device = tokenizer.model_max_length, text_encoder.device
    ids = [
        [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id]
        + [tokenizer.pad_token_id] * (length - 2 - len(chunk.ids))
        for chunk in chunks
    ]
    mask = None
    if getattr(text_encoder.config, "use_attention_mask", False):
        read = [[1] * (len(chunk.ids) + 2) + [0] * (length - 2 - len(chunk.ids)) for chunk in chunks]
        mask = torch.tensor(read, device=device)
    weights = [[1.0, *chunk.weights, *[1.0] * (length - 1 - len(chunk.ids))] for chunk in chunks]
    states = _states(text_encoder, torch.tensor(ids, device=device), mask, clip_skip)
    weighted = [
        each if set(row) == {1.0} else _weigh(each, torch.tensor(row, device=device, dtype=each.dtype))
        for each, row in zip(states, weights, strict=True)
    ]
    return torch.cat(weighted)[None]


def _states(text_encoder: Any, ids: Tensor, mask: Tensor | None, clip_skip: int) -> Tensor:
    if clip_skip == 1:
        states: Tensor = text_encoder(ids, attention_mask=mask)[0]
        return states
    hidden = text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    inner = getattr(text_encoder, "text_model", text_encoder)
    normed: Tensor = inner.final_layer_norm(hidden[-clip_skip])
    return normed


def _weigh(states: Tensor, weights: Tensor) -> Tensor:
    """Multiply each token's state, (length, width), and bring the mean back to what it was."""
    weighted = states * weights[:, None]
    return weighted * (states.mean() / weighted.mean())
