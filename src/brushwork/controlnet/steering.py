"""What ControlNets add at one step, for pictures that are drawn together.

residuals(family, looks)                        # each look's texts, with what its networks say beside them

What a network says goes to the denoiser as tensors of the ``Conditioning`` (``residual_...``), one row for each latent,
so pictures with different networks, or the same one at other weights, still share a look at the model.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from brushwork import tiling
from brushwork.controlnet.kinds import Glance, kind_of
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from brushwork.controlnet import Control
    from brushwork.values import Family

Said = dict[str, "Tensor"]
"""What is to be added, by its place in the denoiser."""


class Asked(NamedTuple):
    """One control at one picture's next look."""

    place: int
    """The picture's, among those that are drawn together."""
    control: Control
    seen: Tensor
    """The map as its network sees it, (1, ...)."""
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
        asks = (id(control.network), control.weight, control.mode, control.union)
        groups[(*asks, each.tiling, tuple(look.inputs.shape[1:]), shapes)].append(each)
    said: dict[int, Said] = defaultdict(dict)
    for members in groups.values():
        parts = _say(family, [looks[each.place] for each in members], members)
        for each, part in zip(members, parts, strict=True):
            before = said[each.place]
            before |= {name: before[name] + value if name in before else value for name, value in part.items()}
    return [look.texts.told(**said.get(place, {})) for place, look in enumerate(looks)]


def _say(family: Family, looks: Sequence[Look], members: Sequence[Asked]) -> list[Said]:
    """Run one network on the looks of several pictures."""
    import torch

    control, kind = members[0].control, kind_of(family)
    module = control.network.module
    dtype = next(module.parameters()).dtype
    skipped = [len(look.inputs) - 1 if control.only_prompted or kind.shares else 0 for look in looks]
    rows = [len(look.inputs) - skip for look, skip in zip(looks, skipped, strict=True)]
    kept = [slice(skip, None) for skip in skipped]
    texts = [
        Conditioning({name: value[part] for name, value in look.texts.tensors.items()})
        for look, part in zip(looks, kept, strict=True)
    ]
    seen = [each.seen.expand(count, *each.seen.shape[1:]) for each, count in zip(members, rows, strict=True)]
    glance = Glance(
        torch.cat([look.inputs[part] for look, part in zip(looks, kept, strict=True)]).to(dtype),
        torch.cat([look.timesteps[part] for look, part in zip(looks, kept, strict=True)]),
        Conditioning.concatenate(texts),
        torch.cat(seen).to(dtype),
        control,
    )
    edges = tiling.circular(module) if members[0].tiling else contextlib.nullcontext()
    with edges:
        said = kind.ask(family, module, glance)
    split = {name: value.split(rows) for name, value in said.items()}
    return [
        {name: _whole(parts[place], skip, shares=kind.shares) for name, parts in split.items()}
        for place, skip in enumerate(skipped)
    ]


def _whole(said: Tensor, skip: int, *, shares: bool) -> Tensor:
    """Return what is said to the rows that were not asked about, too: nothing, or the same."""
    import torch

    if not skip:
        return said
    others = said[-1:].expand(skip, *said.shape[1:]) if shares else said.new_zeros(skip, *said.shape[1:])
    return torch.cat([others, said])
