"""Several low-rank updates as one of the layer that stacks their rows, and back, without loss.

    whole = fuse([q, k, v], rows=(3072, 3072, 3072))
    q, k, v = split(whole, rows=(3072, 3072, 3072))

Updates with the same ``down`` share it. Otherwise the ranks are put beside one another, each ``up`` in its own rows and
columns, and zeros elsewhere: the product then is exactly theirs, stacked.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from brushwork.formats.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def fuse(members: Sequence[Layer | None], rows: Sequence[int]) -> Layer:
    """Return the one update of the stacked rows; None leaves its rows alone."""
    import torch

    present = [each for each in members if each is not None]
    first = present[0]
    downs = [each.tensors["down"] for each in present]
    same_scale = all(each.scale == first.scale for each in present)
    if len(present) == len(members) and same_scale and all(torch.equal(downs[0], each) for each in downs[1:]):
        up = torch.cat([each.tensors["up"] for each in present])
        return Layer("lora", {"down": downs[0], "up": up}, first.alpha)
    rank = sum(each.shape[0] for each in downs)
    up = torch.zeros(sum(rows), rank, *first.tensors["up"].shape[2:], dtype=first.tensors["up"].dtype)
    column = row = 0
    for member, count in zip(members, rows, strict=True):
        if member is not None:
            width = member.tensors["down"].shape[0]
            own = member.tensors["up"]
            up[row : row + count, column : column + width] = own if same_scale else own * (member.scale / first.scale)
            column += width
        row += count
    return Layer("lora", {"down": torch.cat(downs), "up": up}, first.scale * rank)


def split(layer: Layer, rows: Sequence[int]) -> list[Layer | None]:
    """Return each member's own update; None for a member whose rows are all zero."""
    import torch

    if not layer.is_plain:
        update = layer.delta((sum(rows), *layer.shape[1:]))
        return [Layer("diff", {"diff": part}) for part in update.split(list(rows))]
    down, ups = layer.tensors["down"], layer.tensors["up"].split(list(rows))
    used = [(up.flatten(1) != 0).any(0).nonzero().flatten().tolist() for up in ups]
    bounds = _blocks(used, down.shape[0])
    members: list[Layer | None] = []
    for up, columns, (start, end) in zip(ups, used, bounds, strict=True):
        if not columns:
            members.append(None)
            continue
        own = {"down": down[start:end].contiguous(), "up": up[:, start:end].contiguous()}
        members.append(Layer("lora", own, layer.scale * (end - start)))
    if len(rows) > 1 and not any(members):  # an update that does nothing yet is still one
        zeros: list[Tensor] = [torch.zeros_like(up) for up in ups]
        return [Layer("lora", {"down": down, "up": up}, layer.alpha) for up in zeros]
    return members


def _blocks(used: Sequence[Sequence[int]], rank: int) -> list[tuple[int, int]]:
    """Return which columns belong to each member: a block of its own where the blocks lie apart, else all of them."""
    members = [columns for columns in used if columns]
    even = rank // len(members) if members and rank % len(members) == 0 else 0
    if even:
        before = [sum(bool(other) for other in used[:index]) for index in range(len(used))]
        blocks = [(start * even, start * even + even) for start in before]
        if all(_within(columns, block) for columns, block in zip(used, blocks, strict=True)):
            return blocks
    spans = [(columns[0], columns[-1] + 1) if columns else (0, 0) for columns in used]
    ordered = [span for span in spans if span[1]]
    if all(left[1] <= right[0] for left, right in itertools.pairwise(ordered)):
        return spans
    return [(0, rank)] * len(used)


def _within(columns: Sequence[int], block: tuple[int, int]) -> bool:
    return not columns or (block[0] <= columns[0] and columns[-1] < block[1])


def swap(layer: Layer) -> Layer:
    """Exchange the two halves of the rows of an update (scale and shift)."""
    import torch

    if layer.kind != "lora":
        update = layer.delta(layer.shape)
        return Layer("diff", {"diff": torch.cat(update.chunk(2)[::-1])})
    return Layer("lora", {**layer.tensors, "up": torch.cat(layer.tensors["up"].chunk(2)[::-1])}, layer.alpha)
