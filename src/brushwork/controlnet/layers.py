"""What a transformer's ControlNet says to its layers, by names that tell which of them hear it.

texts.told(**said("block", samples))                # residual_block_5_0 ... residual_block_5_4
added(texts, 19, {"block": evenly})                 # what diffusers' transformer is given, or None

A network usually has fewer layers than the denoiser, and each of them speaks to several. Networks with as many layers
add up by name; others are spread over all layers first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from brushwork.values import Conditioning

    Spread = Callable[[int, int, int], int]
    """Of a layer, how many the network has, and how many the denoiser has: which of the network's speaks to it."""

NAME = "residual"
"""How the names of all that ControlNets say begin, among what the denoiser is told."""
_NAME = re.compile(rf"{NAME}_([a-z]+)_(\d+)_(\d+)")


def evenly(layer: int, spoken: int, layers: int) -> int:
    """The first ceil(layers / spoken) hear the first, and so on (diffusers: FLUX, Qwen-Image)."""
    return layer // -(-layers // spoken)


def by_share(layer: int, spoken: int, layers: int) -> int:
    """Each of the network's speaks to as many as any other, within one (diffusers: Stable Diffusion 3)."""
    return int(layer / (layers / spoken))


def in_turn(layer: int, spoken: int, layers: int) -> int:  # noqa: ARG001  (as the others)
    """The first again after the last (XLabs' networks of FLUX)."""
    return layer % spoken


def said(part: str, samples: Sequence[Tensor] | None) -> dict[str, Tensor]:
    """Name what a network says to one part of the denoiser."""
    spoken = samples or ()
    return {f"{NAME}_{part}_{len(spoken)}_{place}": sample for place, sample in enumerate(spoken)}


def in_order(samples: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name what is said to the first layers that there are, one each."""
    return {f"{NAME}_{place}": sample for place, sample in enumerate(samples)}


def every(conditioning: Conditioning) -> tuple[Tensor, ...]:
    """Return what was named by ``in_order``."""
    tensors = conditioning.tensors
    return tuple(tensors[f"{NAME}_{place}"] for place in range(len(tensors)) if f"{NAME}_{place}" in tensors)


def added(conditioning: Conditioning, layers: int, parts: Mapping[str, Spread]) -> list[Tensor] | None:
    """Return what is added to the layers: as many as the networks have, or one for each layer; None: nothing.

    Given one for each, diffusers' transformers add each to its own.
    """
    groups: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    named = ((_NAME.fullmatch(name), tensor) for name, tensor in conditioning.tensors.items())
    for found, tensor in sorted(((f, t) for f, t in named if f), key=lambda each: int(each[0][3])):
        if found[1] in parts:
            groups[found[1], int(found[2])].append(tensor)
    if len(groups) == 1 and parts[next(iter(groups))[0]] is not in_turn:
        return next(iter(groups.values()))
    heard = [
        [spoken[parts[part](layer, count, layers)] for (part, count), spoken in groups.items()]
        for layer in range(layers)
    ]
    return [sum(each[1:], each[0]) for each in heard] if groups else None
