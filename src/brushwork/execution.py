"""How the denoiser is run: which blocks are checkpointed, how its weights lie in memory, whether it is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import memory
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from brushwork.settings import TrainConfig
    from brushwork.values import Family, Method

LARGE = 60_000_000
"""Parameters from which on, on a CPU, holes in the heap cost more than mapping blocks of memory anew."""
FLAG = "gradient_checkpointing"
"""Diffusers' blocks look at this attribute of theirs."""


def arrange(denoiser: nn.Module, settings: TrainConfig) -> None:
    """Do what ``train.gradient_checkpointing``, ``channels_last`` and ``compile`` ask for.

    Raises:
        ConfigError: The denoiser cannot honour one of them.
    """
    if settings.gradient_checkpointing:
        checkpoint(denoiser, settings.gradient_checkpointing_interval)
    if settings.channels_last:
        _channels_last(denoiser)
    if settings.compile:
        _compile(denoiser)
    if _short_of_memory(denoiser, settings):
        memory.give_back_large_blocks()


def _short_of_memory(denoiser: nn.Module, settings: TrainConfig) -> bool:
    """Return whether, on a CPU, memory counts more than time: the base is large, or checkpointing was asked for."""
    every = list(denoiser.parameters())
    large = sum(each.numel() for each in every) >= LARGE
    return every[0].device.type == "cpu" and (large or settings.gradient_checkpointing)


def quantized(family: Family, method: Method, settings: TrainConfig, device: str) -> Family:
    """Return the family, its denoiser's frozen matrices in fewer bits if ``train.base_quantization`` asks for it.

    Raises:
        ConfigError: This method, this denoiser or this machine cannot.
    """
    from brushwork import quantization

    quantization.arrange(family.denoiser, method, settings.base_quantization, device)
    return family


def checkpoint(denoiser: Any, interval: int) -> None:
    """Recompute the inside of every ``interval``-th block in the backward pass instead of keeping it.

    A block is an outermost module that diffusers can checkpoint, the stages of a UNet, with all that lies within; or
    a layer of a transformer, which itself checkpoints the members of its lists.

    Raises:
        ConfigError: Diffusers cannot checkpoint this denoiser.
    """
    if not getattr(denoiser, "_supports_gradient_checkpointing", False):
        message = f"train.gradient_checkpointing: {type(denoiser).__name__} has no blocks to checkpoint. Leave it out."
        raise ConfigError(message)
    if hasattr(denoiser, FLAG):
        denoiser.enable_gradient_checkpointing(_of_layers(denoiser, interval))
        return
    denoiser.enable_gradient_checkpointing()
    blocks: dict[str, nn.Module] = {}
    for name, module in denoiser.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in blocks)
        if name and hasattr(module, FLAG) and not inside:
            blocks[name] = module
    for place, block in enumerate(blocks.values()):
        for module in block.modules():
            if hasattr(module, FLAG):
                setattr(module, FLAG, place % interval == 0)


def _of_layers(transformer: nn.Module, interval: int) -> Callable[..., Any]:
    """Return what a transformer calls its layers with: every ``interval``-th is computed again, the others are kept."""
    import torch
    from torch.utils.checkpoint import checkpoint as computed_again

    lists = [each for each in transformer.children() if isinstance(each, torch.nn.ModuleList)]
    layers = [layer for each in lists for layer in each]
    kept = {id(layer) for place, layer in enumerate(layers) if place % interval}

    def call(layer: Any, *inputs: Any) -> Any:
        return layer(*inputs) if id(layer) in kept else computed_again(layer, *inputs, use_reentrant=False)

    return call


def _channels_last(denoiser: Any) -> None:
    import torch

    if not any(isinstance(module, torch.nn.Conv2d) for module in denoiser.modules()):
        message = f"train.channels_last: {type(denoiser).__name__} has no convolutions to lay out. Leave it out."
        raise ConfigError(message)
    denoiser.to(memory_format=torch.channels_last)


def _compile(denoiser: Any) -> None:
    """Compile one block and use it for all of its kind (torch's regional compilation): seconds instead of minutes."""
    if not getattr(denoiser, "_repeated_blocks", None):
        message = f"train.compile: {type(denoiser).__name__} names no repeated blocks to compile. Leave it out."
        raise ConfigError(message)
    denoiser.compile_repeated_blocks()
