"""What is wanted of an export, and the base it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from brushwork import families, models
from brushwork.devices import resolve_device

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from brushwork.models import LoadedModel
    from brushwork.values import Family

Target = Literal["diffusers", "kohya", "comfyui", "single-file"]
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Order:
    """The target, where to, and how it is written; ``dtype`` None: the numbers as they are."""

    target: Target
    out: Path
    metadata: bool = True
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    device: str = "auto"

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The type of the numbers, if it is to be another."""
        import torch

        return None if self.dtype is None else getattr(torch, DTYPES[self.dtype])


def reopened(model: LoadedModel, device: str) -> Family:
    """Load the base of a model again, without any adapter."""
    base, source, _ = models.resolve(model.spec)
    return families.load(base, device=resolve_device(device), **source)
