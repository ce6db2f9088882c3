"""The frozen weights of the denoiser in 8 or 4 bits, with an adapter in float32 beside them (QLoRA, arXiv:2305.14314).

    count = freeze(family.denoiser, "nf4", "cuda")          # Linear layers that are now bitsandbytes'

8bit keeps each row as whole numbers with one scale (LLM.int8(), arXiv:2208.07339), nf4 each 64 weights as places of the
normal distribution's quantiles, both by bitsandbytes; fp8 is ours, see ``brushwork.float8``. Only matrices within the
repeated blocks are replaced: embeddings and convolutions are few and decide the type that the denoiser is fed with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from torch import nn

    from brushwork.settings import Quantization
    from brushwork.values import Method

SIDE = 64
"""Of the layer that is tried first."""


def arrange(denoiser: nn.Module, method: Method, kind: Quantization, device: str) -> None:
    """Do what ``train.base_quantization`` asks for, before the method attaches.

    Raises:
        ConfigError: This method, this denoiser or this machine cannot.
    """
    if kind == "none":
        return
    if kind not in getattr(method, "takes_quantized", ()):
        message = (
            f"train.base_quantization={kind}: LoRA is trained beside matrices in fewer bits, DoRA beside nf4 only. "
            f"Use --method lora, or leave it out."
        )
        raise ConfigError(message)
    probe(kind, device)
    if not freeze(denoiser, kind, device):
        message = f"train.base_quantization={kind}: {type(denoiser).__name__} has no matrices in blocks. Leave it out."
        raise ConfigError(message)


def probe(kind: Quantization, device: str) -> None:
    """Run one small layer forward and back.

    Raises:
        ConfigError: bitsandbytes is missing, or has no such kernels here.
    """
    import torch

    layer = torch.nn.Linear(SIDE, SIDE)
    try:
        small = _replaced(None if kind == "fp8" else _package(kind), layer, kind, device).to(device)
        given = torch.ones(2, SIDE, device=device, requires_grad=True)
        small(given).sum().backward()
    # A missing kernel is a RuntimeError to torch; a library that found none of its own has None in its place.
    except (RuntimeError, AttributeError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"train.base_quantization={kind}: {_whose(kind)} cannot do it on {device}: {why}. Leave it out."
        raise ConfigError(message) from error
    if given.grad is None or not bool(given.grad.isfinite().all()):
        message = f"train.base_quantization={kind}: on {device} {_whose(kind)} gives no gradient. Leave it out."
        raise ConfigError(message)


def _whose(kind: Quantization) -> str:
    return "torch" if kind == "fp8" else "bitsandbytes"


def freeze(denoiser: nn.Module, kind: Quantization, device: str) -> int:
    """Replace the matrices within the blocks by quantised ones, one by one; return how many."""
    import torch

    package = None if kind == "fp8" else _package(kind)
    found = [name for name, each in denoiser.named_modules() if type(each) is torch.nn.Linear and _within_blocks(name)]
    for name in found:
        parent, _, own = name.rpartition(".")
        layer: Any = denoiser.get_submodule(name)
        setattr(denoiser.get_submodule(parent), own, _replaced(package, layer, kind, device))
    if package:  # peft asks the model, not the layers
        setattr(denoiser, "is_loaded_in_8bit" if kind == "8bit" else "is_loaded_in_4bit", bool(found))
    return len(found)


def _within_blocks(name: str) -> bool:
    return "embed" not in name and any(each.isdigit() for each in name.split("."))


def _replaced(package: ModuleType | None, layer: nn.Linear, kind: Quantization, device: str) -> Any:
    """Return a layer with the same weights, quantised: bitsandbytes' when it comes to its device, ours where it is."""
    if package is None:
        from brushwork import float8

        return float8.linear(layer)
    width, height, has_bias = layer.in_features, layer.out_features, layer.bias is not None
    if kind == "8bit":
        new = package.nn.Linear8bitLt(width, height, has_bias, has_fp16_weights=False)
    else:
        new = package.nn.Linear4bit(width, height, has_bias, compute_dtype=layer.weight.dtype, quant_type=kind)
        # Else bitsandbytes lays the weights out anew when a CPU first draws, for good and for some shapes only.
        new.support_avx512bf16_for_cpu = False
    new.load_state_dict({key: each.detach().to("cpu") for key, each in layer.state_dict().items()})
    new.to(device).requires_grad_(requires_grad=False)
    if has_bias:
        new.bias.data = new.bias.data.to(layer.bias.dtype)
    return new


def _package(kind: Quantization) -> ModuleType:
    try:
        import bitsandbytes
    except ImportError as error:
        message = f"train.base_quantization={kind} needs bitsandbytes: pip install 'brushwork[bnb]', or leave it out."
        raise ConfigError(message) from error
    module: ModuleType = bitsandbytes
    return module
