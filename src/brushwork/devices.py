"""Where and in which number format a model runs.

device = resolve_device("auto")                 # "cuda", "mps" or "cpu"
dtype = resolve_dtype("bf16", device)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.errors import ConfigError, UserError, nearest

if TYPE_CHECKING:
    import torch

    from brushwork.settings import Precision

KINDS = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str = "auto", key: str = "device") -> str:
    """Return the device to use: for ``auto`` the GPU when there is one; ``key`` is the setting, for messages.

    Raises:
        ConfigError: There is no device of this name.
        UserError: This machine has no such device.
    """
    import torch

    kind, _, index = name.partition(":")
    if kind not in KINDS or (index and (kind != "cuda" or not index.isdigit())):
        message = f"{key}: there is no {name!r}.{nearest(name, KINDS)} (A certain GPU: cuda:0, cuda:1 ...)"
        raise ConfigError(message)
    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        built = "" if torch.version.cuda or torch.version.hip else ": this torch was built for the CPU only"
        message = f"{key}: {name} was asked for but torch sees no GPU{built}. Use device auto or cpu."
        raise UserError(message)
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        message = f"{key}: {name} was asked for but torch sees {torch.cuda.device_count()} GPU(s), counted from 0."
        raise UserError(message)
    if kind == "mps" and not torch.backends.mps.is_available():
        message = f"{key}: mps was asked for but torch sees no Apple GPU here. Use device auto or cpu."
        raise UserError(message)
    return name


def resolve_dtype(precision: Precision, device: str) -> torch.dtype:
    """Return the number format for a ``mixed_precision`` word on a device.

    Raises:
        ConfigError: fp16 on the CPU.
    """
    import torch

    if precision == "fp16" and device == "cpu":
        message = "mixed_precision: fp16 needs a GPU; use bf16 or no"
        raise ConfigError(message)
    return {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
