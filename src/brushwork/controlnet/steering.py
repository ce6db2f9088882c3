"""What ControlNets add at one step, for pictures that are drawn together.

residuals(family, looks)                        # each look's texts, with what its networks say beside them

What a network says goes to the denoiser as tensors of the ``Conditioning`` (``residual_0`` ...), one row for each
latent, so pictures with different networks, or the same one at other weights, still share a look at the model.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from brushwork import tiling
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from brushwork.controlnet import Control
    from brushwork.values import Family

NAME = "residual"
Residuals = tuple["Tensor", ...]


class Asked(NamedTuple):
    """One control at one picture's next look."""

    place: int
    """The picture's, among those that are drawn together."""
    control: Control
    seen: Tensor
    """The map, (1, 3, H, W)."""
    tiling: bool = False
    """Whether the picture shall repeat without a seam."""


class Look(NamedTuple):
    """What the denoiser is to look at for one picture: a row, or with guidance two, that without the prompt first."""

    inputs: Tensor
    timesteps: Tensor
    texts: Conditioning


def residuals(family: Family, looks: Sequence[Look], asked: Sequence[Asked]) -> list[Conditioning]:
    """Return each look's texts with the sum of what its controls say."""
    groups: dict[tuple[Any, ...], list[Asked]] = defaultdict(list)
    for each in asked:
        look, control = looks[each.place], each.control
        shapes = tuple((name, tuple(value.shape[1:])) for name, value in sorted(look.texts.tensors.items()))
        key = (id(control.network), control.weight, control.mode, each.tiling, tuple(look.inputs.shape[1:]), shapes)
        groups[key].append(each)
    said: dict[int, Residuals] = {}
    for members in groups.values():
        parts = _say(family, [looks[each.place] for each in members], members)
        for each, part in zip(members, parts, strict=True):
            before = said.get(each.place)
            said[each.place] = part if before is None else tuple(a + b for a, b in zip(before, part, strict=True))
    return [
        look.texts.told(**{f"{NAME}_{layer}": value for layer, value in enumerate(said.get(place, ()))})
        for place, look in enumerate(looks)
    ]


def _say(family: Family, looks: Sequence[Look], members: Sequence[Asked]) -> list[Residuals]:
    """Run one network on the looks of several pictures."""
    import torch

    family_: Any = family
    control = members[0].control
    dtype = next(control.network.module.parameters()).dtype
    skipped = [len(look.inputs) - 1 if control.only_prompted else 0 for look in looks]
    rows = [len(look.inputs) - skip for look, skip in zip(looks, skipped, strict=True)]
    kept = [slice(skip, None) for skip in skipped]
    texts = [
        Conditioning({name: value[part] for name, value in look.texts.tensors.items()})
        for look, part in zip(looks, kept, strict=True)
    ]
    seen = torch.cat([each.seen.expand(count, -1, -1, -1) for each, count in zip(members, rows, strict=True)])
    edges = tiling.circular(control.network.module) if members[0].tiling else contextlib.nullcontext()
    with edges:
        said: Residuals = family_.controlled(
            control.network.module,
            torch.cat([look.inputs[part] for look, part in zip(looks, kept, strict=True)]).to(dtype),
            torch.cat([look.timesteps[part] for look, part in zip(looks, kept, strict=True)]),
            Conditioning.concatenate(texts),
            seen.to(dtype),
            control.weight,
            guess=control.only_prompted,
        )
    parts = zip(*(layer.split(rows) for layer in said), strict=True)
    return [
        tuple(torch.cat([value.new_zeros(skip, *value.shape[1:]), value]) for value in part)
        for part, skip in zip(parts, skipped, strict=True)
    ]
