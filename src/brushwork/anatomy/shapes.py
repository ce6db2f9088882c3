"""The shapes that numbers take on their way through a module, block by block.

    with tracing(unet=family.denoiser) as rows:
        family.predict(latents, timesteps, conditioning)
    rows[0].name, rows[0].inside, rows[0].outside           # "conv_in", (4, 64, 64), (320, 64, 64)

The first call counts; a batch's first dimension is left out, so a shape is that of one picture or one prompt.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One block: what goes in and what comes out; ``depth`` 0 is the whole module."""

    part: str
    name: str
    kind: str
    inside: Shape | None
    outside: Shape | None
    parameters: int
    depth: int = 1


@contextlib.contextmanager
def tracing(**parts: nn.Module) -> Iterator[list[Row]]:
    """Within this context note the shapes of each part's blocks in the order in which they first run."""
    import torch

    rows: list[Row] = []
    handles = []

    def listen(part: str, name: str, module: nn.Module, depth: int) -> None:
        known: set[int] = set()

        def after(of: nn.Module, given: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            if id(of) in known:
                return
            known.add(id(of))
            inside = _shape([*given, *named.values()], torch.Tensor)
            count = sum(parameter.numel() for parameter in of.parameters())
            rows.append(Row(part, name, type(of).__name__, inside, _shape(result, torch.Tensor), count, depth))

        handles.append(module.register_forward_hook(after, with_kwargs=True))

    for part, module in parts.items():
        for name, block in _blocks(module):
            listen(part, name, block, 1)
        listen(part, part, module, 0)
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _blocks(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the blocks of a module: its children, lists of blocks spread out, wrappers around a single one opened."""
    from torch.nn import ModuleList

    for name, child in module.named_children():
        if isinstance(child, ModuleList):
            yield from ((f"{name}.{index}", block) for index, block in enumerate(child))
        elif _only_lists(child):
            yield from ((f"{name}.{inner}", block) for inner, block in _blocks(child))
        else:
            yield name, child


def _only_lists(module: nn.Module) -> bool:
    """Return whether a module is a frame around others that are worth showing: an encoder, a decoder, a text model."""
    from torch.nn import ModuleList

    children = list(module.children())
    frame = any(isinstance(child, ModuleList) for child in children) or any(_only_lists(child) for child in children)
    return frame and not hasattr(module, "resnets") and not hasattr(module, "attentions")


def _shape(value: Any, tensor: type) -> Shape | None:
    """Return the shape of the first tensor with more than one dimension in what a module takes or gives."""
    if isinstance(value, tensor):
        shape: Shape = tuple(value.shape[1:])  # type: ignore[attr-defined]  # a tensor has a shape
        return shape or None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return next((found for each in value if (found := _shape(each, tensor)) is not None), None)
    return None
