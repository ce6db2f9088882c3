"""What an adapter's file holds for one layer, whatever the names in it: the tensors, and what they are multiplied with.

    layer = Layer("lora", {"down": A, "up": B}, alpha=8.0)
    layer.delta((320, 320))                         # what is added to the layer's weight at strength 1

LoRA (arXiv:2106.09685) with an optional core (LoCon), LoHa (arXiv:2108.06098), LoKr (arXiv:2309.14859) as LyCORIS and
peft define them, and ``diff``, a whole update.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

Kind = Literal["lora", "loha", "lokr", "diff"]
WORDS: Mapping[Kind, str] = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "diff": "whole update"}
_RANKED = ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")
"""The tensors whose first side is the rank."""


@dataclass(frozen=True)
class Layer:
    """One layer's share of an adapter.

    ``tensors`` by name: ``down`` (rank, in, ...), ``up`` (out, rank, ...), ``mid`` (rank, rank, kh, kw) and
    ``magnitude`` (out,) for LoRA and DoRA; LyCORIS' own names for LoHa and LoKr; ``diff`` of the weight's shape.
    ``alpha`` None: the update is not scaled.
    """

    kind: Kind
    tensors: Mapping[str, Tensor]
    alpha: float | None = None

    @property
    def rank(self) -> int | None:
        """The inner dimension; None where there is none (LoKr of two whole factors, a whole update)."""
        return next((int(self.tensors[name].shape[0]) for name in _RANKED if name in self.tensors), None)

    @property
    def scale(self) -> float:
        """What the product is multiplied with: alpha / rank."""
        return 1.0 if self.alpha is None or self.rank is None else self.alpha / self.rank

    @property
    def is_plain(self) -> bool:
        """Whether it is two matrices and no more (and DoRA's magnitude)."""
        return self.kind == "lora" and "mid" not in self.tensors

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether the update has a weight's shape."""
        own = self.shape
        return own == tuple(shape) or (math.prod(own) == math.prod(shape) and own[0] == shape[0] and not self.is_plain)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the update, as far as the tensors say it: LoHa of a convolution has its kernel in the inputs."""
        tensors = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if self.kind == "lora":
            kernel = tensors.get("mid", tensors["down"])[2:]
            return (tensors["up"][0], tensors["down"][1], *kernel)
        if self.kind == "loha":
            if "hada_t1" in tensors:
                return (tensors["hada_w1_a"][1], tensors["hada_w1_b"][1], *tensors["hada_t1"][2:])
            return (tensors["hada_w1_a"][0], tensors["hada_w1_b"][1])
        if self.kind == "lokr":
            return self._kron_shape(tensors)
        return tensors["diff"]

    @staticmethod
    def _kron_shape(tensors: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        first = tensors.get("lokr_w1") or (tensors["lokr_w1_a"][0], tensors["lokr_w1_b"][1])
        if "lokr_t2" in tensors:
            second = (tensors["lokr_w2_a"][1], tensors["lokr_w2_b"][1], *tensors["lokr_t2"][2:])
        else:
            second = tensors.get("lokr_w2") or (tensors["lokr_w2_a"][0], tensors["lokr_w2_b"][1])
        return (first[0] * second[0], first[1] * second[1], *second[2:])

    def delta(self, shape: Sequence[int]) -> Tensor:
        """Return the update of a weight of this shape, float32; DoRA's magnitude is not in it."""
        import torch

        every = {name: tensor.detach().to(torch.float32) for name, tensor in self.tensors.items()}
        if self.kind == "lora":
            update = _lora(every)
        elif self.kind == "loha":
            update = _loha(every)
        elif self.kind == "lokr":
            update = _lokr(every)
        else:
            update = every["diff"]
        return (update * self.scale).reshape(tuple(shape))

    def scaled(self, factor: float) -> Layer:
        """Return the same with its update multiplied; the tensors stay as they are where alpha can say it."""
        if self.rank is None:
            name = "lokr_w1" if self.kind == "lokr" else "diff"
            return dataclasses.replace(self, tensors={**self.tensors, name: self.tensors[name] * factor})
        return dataclasses.replace(self, alpha=self.scale * self.rank * factor)

    def to(self, dtype: torch.dtype) -> Layer:
        """Return the same with tensors of another type, in memory of their own."""
        changed = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in self.tensors.items()}
        return dataclasses.replace(self, tensors=changed)


def _lora(tensors: Mapping[str, Tensor]) -> Tensor:
    import torch

    up, down = tensors["up"].flatten(1), tensors["down"]
    if "mid" in tensors:
        return torch.einsum("mn...,im,nj->ij...", tensors["mid"], up, down.flatten(1))
    return (up @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _core(core: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Tucker: a core (r, r, kh, kw) between (r, out) and (r, in)."""
    import torch

    return torch.einsum("ijkl,jr,ip->prkl", core, second, first)


def _loha(tensors: Mapping[str, Tensor]) -> Tensor:
    halves = []
    for number in (1, 2):
        first, second = tensors[f"hada_w{number}_a"], tensors[f"hada_w{number}_b"]
        core = tensors.get(f"hada_t{number}")
        halves.append(first @ second if core is None else _core(core, first, second))
    return halves[0] * halves[1]


def _lokr(tensors: Mapping[str, Tensor]) -> Tensor:
    import torch

    first = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    if "lokr_t2" in tensors:
        second = _core(tensors["lokr_t2"], tensors["lokr_w2_a"], tensors["lokr_w2_b"])
    else:
        second = tensors["lokr_w2"] if "lokr_w2" in tensors else tensors["lokr_w2_a"] @ tensors["lokr_w2_b"]
    return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second)
