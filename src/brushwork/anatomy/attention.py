"""Where each word acts in the picture: cross-attention, recorded while a picture is drawn as always.

    with recording(family.denoiser) as record:
        ...                                     # draw
    maps = record.maps(size=(64, 64))           # (77, 64, 64), sums to 1 over the tokens of each place

Each cross-attention layer mixes the tokens into each place of the picture with the weights softmax(Q K^T / sqrt(d))
over the tokens (Vaswani et al. 2017, arXiv:1706.03762, equation 1; Rombach et al. 2022, arXiv:2112.10752, section 3.3).
Here the weights are computed a second time beside the layer's own, fused computation, whose result goes on unchanged;
so the picture is the same to the last bit. They are averaged over heads, layers and steps after enlarging each layer's
map to one size, as Tang et al. 2022 (DAAM, arXiv:2210.04885) add them up.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from brushwork.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


class Record:
    """Sums of attention weights by layer, each (places, tokens) of the last picture of a batch."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, layer: str, weights: Tensor) -> None:
        """Add weights (heads, places, tokens) of one call."""
        mean = weights.float().mean(dim=0).cpu()
        self.sums[layer] = mean if layer not in self.sums else self.sums[layer] + mean
        self.counts[layer] = self.counts.get(layer, 0) + 1

    def maps(self, size: tuple[int, int]) -> Tensor:
        """Return (tokens, height, width): the mean over heads, layers and calls; 1 in sum over the tokens.

        Args:
            size: Height and width, those of the latents.

        Raises:
            ModelError: Nothing was recorded.
        """
        import torch
        from torch.nn.functional import interpolate

        if not self.sums:
            message = "model: no cross-attention was seen while the picture was drawn."
            raise ModelError(message)
        height, width = size
        total = torch.zeros(())
        for layer, weights in self.sums.items():
            rows, columns = grid(len(weights), height, width)
            maps = (weights / self.counts[layer]).T.reshape(1, -1, rows, columns)
            total = total + interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
        return total / len(self.sums)


def grid(places: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of a layer's places: the picture's, halved so often that they are so many.

    >>> grid(256, 64, 64), grid(96, 64, 96), grid(12, 5, 7)
    ((16, 16), (8, 12), (3, 4))
    """
    rows, columns = height, width
    while rows * columns > places:
        rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
    assert rows * columns == places, f"{places} places are no part of {height} x {width}"
    return rows, columns


class Listener:
    """An attention processor that lets another one work and notes the weights of cross-attention."""

    def __init__(self, layer: str, inner: Any, record: Record) -> None:
        self.layer, self.inner, self.record = layer, inner, record

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **named: Any,
    ) -> Any:
        """Return what the other one does."""
        if encoder_hidden_states is not None:
            self.record.add(self.layer, weights(attn, hidden_states, encoder_hidden_states, attention_mask))
        return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **named)


def weights(attn: Any, hidden: Tensor, encoded: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) of the last picture of a batch, (heads, places, tokens).

    Args:
        attn: diffusers' ``Attention``.
        hidden: What asks, (B, places, channels) or (B, channels, height, width).
        encoded: What is asked: the text encoder's states, (B, tokens, width).
        mask: Added to the scores, or None.
    """
    if hidden.ndim == 4:  # noqa: PLR2004  (B, C, H, W)
        hidden = hidden.flatten(2).transpose(1, 2)
    hidden, encoded = hidden[-1:], encoded[-1:]
    if attn.group_norm is not None:
        hidden = attn.group_norm(hidden.transpose(1, 2)).transpose(1, 2)
    if attn.norm_cross:
        encoded = attn.norm_encoder_hidden_states(encoded)
    query, key = (
        each.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for each in (attn.to_q(hidden), attn.to_k(encoded))
    )
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    scores = query.float() @ key.float().transpose(-1, -2) * attn.scale
    if mask is not None:
        scores = scores + mask[-1:].float().reshape(1, 1, -1, scores.shape[-1])
    found: Tensor = scores.softmax(dim=-1)[0]
    return found


def layers(denoiser: nn.Module) -> dict[str, Any]:
    """Return the cross-attention layers of a denoiser by name; none where text and picture attend jointly."""
    from diffusers.models.attention_processor import Attention

    return {
        name: module
        for name, module in denoiser.named_modules()
        if isinstance(module, Attention) and module.is_cross_attention and module.added_kv_proj_dim is None
    }


@contextlib.contextmanager
def recording(denoiser: nn.Module) -> Iterator[Record]:
    """Within this context every cross-attention layer is listened to; afterwards all is as before."""
    record, found = Record(), layers(denoiser)
    before = {name: module.processor for name, module in found.items()}
    try:
        for name, module in found.items():
            module.processor = Listener(name, before[name], record)
        yield record
    finally:
        for name, module in found.items():
            module.processor = before[name]
