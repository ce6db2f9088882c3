"""Frozen blocks of the denoiser stay in main memory and come to the accelerator one at a time.

    place(family, settings, "cuda")                 # all but the first n blocks are there now
    groups = bring(family.denoiser, method.attach(family, seed), settings, "cuda")

A block's weights are copied when it begins and used instead of its own (``torch.func.functional_call``); autograd and
nobody else keeps the copies, so they go when its arithmetic is done. With checkpointing that is after each block:
forward, and backward, where it is computed again. Frozen weights need no way back. While a block computes, the next
one's copies are on their way in a stream of their own: the one behind it in the forward pass, before it in backward.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from brushwork.settings import TrainConfig
    from brushwork.values import Family, Method, ParameterGroup

    Copies = dict[str, Tensor]


def where_to_load(settings: TrainConfig, method: Method, device: str) -> str:
    """Return the device that a base is loaded to: with blocks to swap it must not pass through the accelerator whole.

    Raises:
        ConfigError: ``train.blocks_to_swap`` means nothing here.
    """
    if not settings.blocks_to_swap:
        return device
    if not device.startswith("cuda"):
        message = (
            f"train.blocks_to_swap={settings.blocks_to_swap}: on {device} all weights are in main memory anyway. "
            f"Leave it out."
        )
        raise ConfigError(message)
    if method.updates_base:
        message = "train.blocks_to_swap is for frozen blocks, but this method trains them. Use lora, or leave it out."
        raise ConfigError(message)
    return "cpu"


def blocks_of(denoiser: nn.Module) -> list[nn.Module]:
    """Return the blocks of which a denoiser repeats many, in the order of its modules.

    They are what diffusers compiles as such; where it names none, the elements of the outermost lists of modules.
    """
    import torch

    kinds = getattr(denoiser, "_repeated_blocks", None)
    if kinds:
        return [each for each in denoiser.modules() if type(each).__name__ in kinds]
    lists = [each for each in denoiser.children() if isinstance(each, torch.nn.ModuleList)]
    return [block for each in lists for block in each if any(True for _ in block.parameters())]


def swapped(denoiser: nn.Module, count: int) -> list[nn.Module]:
    """Return the first ``count`` blocks.

    Raises:
        ConfigError: There are not so many.
    """
    blocks = blocks_of(denoiser)
    if count > len(blocks):
        message = (
            f"train.blocks_to_swap={count}: {type(denoiser).__name__} has {len(blocks)} blocks. Choose at most as many."
        )
        raise ConfigError(message)
    return blocks[:count]


def frozen(block: nn.Module) -> Copies:
    """Return what of a block does not learn, by name."""
    every = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    return {name: each for name, each in every.items() if not each.requires_grad}


def sizes(denoiser: nn.Module, count: int) -> list[int]:
    """Return the bytes of each swapped block."""
    blocks = swapped(denoiser, count)
    return [sum(each.numel() * each.element_size() for each in frozen(block).values()) for block in blocks]


def place(family: Family, settings: TrainConfig, device: str) -> Family:
    """Move a family that was loaded to main memory onto the accelerator, all but its swapped blocks.

    Raises:
        ConfigError: There are not so many blocks.
    """
    if not settings.blocks_to_swap:
        return family
    stay = {id(each) for block in swapped(family.denoiser, settings.blocks_to_swap) for each in frozen(block).values()}
    for module in (family.denoiser, family.vae, *family.text_encoders.values()):
        for each in (*module.parameters(), *module.buffers()):
            if id(each) not in stay:
                each.data = each.data.to(device)
    setattr(family, "device", device)  # noqa: B010  (every family of ours has it; the protocol does not ask for it)
    swap(swapped(family.denoiser, settings.blocks_to_swap), device)
    return family


def bring(groups: list[ParameterGroup], family: Family, settings: TrainConfig, device: str) -> list[ParameterGroup]:
    """Move what a method has attached beside swapped blocks to the accelerator; pin what stays for faster copies."""
    if settings.blocks_to_swap:
        for group in groups:
            for each in group.parameters.values():
                each.data = each.data.to(device)
        for block in swapped(family.denoiser, settings.blocks_to_swap):
            for tensor in frozen(block).values():
                tensor.data = tensor.data.pin_memory()
    return groups


def swap(blocks: list[nn.Module], device: str, copy: Callable[[Tensor], Tensor] | None = None) -> None:
    """Let each block compute with copies of its frozen weights on ``device``; ``copy`` makes one."""
    mover = Mover(blocks, device, copy)
    for place_, block in enumerate(blocks):
        block.forward = functools.partial(_forward, mover, place_, block.forward)


def _forward(mover: Mover, place_: int, compute: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Compute a block with copies of its weights; called again from within, with the copies in place, just compute."""
    import torch

    if mover.inside:
        return compute(*given, **named)
    copies = mover.fetch(place_, ahead=not _rehearsed(given, named))
    mover.inside = True
    try:
        return torch.func.functional_call(mover.blocks[place_], copies, given, named)
    finally:
        mover.inside = False


def _rehearsed(given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Return whether this is a forecast, without numbers: what it fetches ahead nobody may compute with later."""
    from torch._subclasses.fake_tensor import FakeTensor

    return any(isinstance(each, FakeTensor) for each in (*given, *named.values()))


class Mover:
    """Copies the frozen weights of blocks, one block ahead of the arithmetic."""

    def __init__(self, blocks: list[nn.Module], device: str, copy: Callable[[Tensor], Tensor] | None) -> None:
        import torch

        self.blocks, self.inside, self._last = blocks, False, -1
        self._copy = copy or functools.partial(_to, device)
        self._ahead: dict[int, Copies] = {}
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None

    def fetch(self, place_: int, *, ahead: bool) -> Copies:
        """Return a block's copies, ready to compute with, and send for the next one's."""
        copies = self._ahead.pop(place_, None) or self._copied(place_)
        self._ready(copies)
        # The same block again is the first of the backward pass, which goes down from the last.
        forward = place_ == (self._last + 1) % len(self.blocks)
        self._last, following = place_, place_ + (1 if forward else -1)
        self._ahead = {}
        if ahead and 0 <= following < len(self.blocks):
            self._ahead = {following: self._copied(following)}
        return copies

    def _copied(self, place_: int) -> Copies:
        import torch

        with torch.no_grad(), torch.cuda.stream(self._stream):  # None: as it is
            return {name: self._copy(each.detach()) for name, each in frozen(self.blocks[place_]).items()}

    def _ready(self, copies: Copies) -> None:
        """Let the arithmetic wait for the copies, and their memory be free only after it."""
        import torch

        if self._stream is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_stream(self._stream)
            for each in copies.values():
                each.record_stream(current)


def _to(device: str, tensor: Tensor) -> Tensor:
    return tensor.to(device, non_blocking=True)
