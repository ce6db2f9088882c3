"""Frozen matrices in 8-bit floating point, one scale for each row: a quarter of float32's bytes, and no other package.

    layer = linear(torch.nn.Linear(64, 64))         # computes in its input's type, gives its input a gradient

Numbers of 4 bits of exponent and 3 of mantissa (Micikevicius et al. 2022, arXiv:2209.05433, E4M3): with each row scaled
to their largest, 448, a weight is off by at most a sixteenth of itself, but for those far below their row's largest.
The product is that of ordinary matrices: the weights are brought up for one product and forgotten, in the backward pass
again, so nothing but the eight bits is kept.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST = 448.0
"""Of E4M3."""
LEAST = 1e-12
"""A row of zeros is divided by this."""


def encode(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix (out, in) as bits, uint8 of its shape, and the scales of its rows, float32 (out, 1)."""
    import torch

    exact = weight.detach().float()
    scale = exact.abs().amax(dim=1, keepdim=True).clamp(min=LEAST) / LARGEST
    return (exact / scale).to(torch.float8_e4m3fn).view(torch.uint8), scale


def decode(bits: Tensor, scale: Tensor, dtype: Any) -> Tensor:
    """Return the matrix again, in a type."""
    import torch

    # Scaled in float32 only where that is asked for: another copy of that size is what this is to save.
    return bits.view(torch.float8_e4m3fn).to(dtype) * scale.to(dtype)


def linear(layer: nn.Linear) -> nn.Linear:
    """Return a frozen layer that does nearly what this one does."""
    made: nn.Linear = _kind()(layer)
    return made


@functools.cache
def _kind() -> type[Any]:
    import torch

    class Product(torch.autograd.Function):
        """x (..., in) times the matrix's rows, plus the bias; nothing in the type of the product is kept."""

        @staticmethod
        def forward(ctx: Any, given: Tensor, bits: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
            ctx.save_for_backward(bits, scale)
            weight = decode(bits, scale, given.dtype)
            return torch.nn.functional.linear(given, weight, None if bias is None else bias.to(given.dtype))

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
            (gradient,) = gradients
            bits, scale = ctx.saved_tensors
            return gradient @ decode(bits, scale, gradient.dtype), None, None, None

    class Float8Linear(torch.nn.Linear):
        """``weight`` holds bits (uint8), so that an adapter laid beside it does not take their type for its own."""

        def __init__(self, layer: nn.Linear) -> None:
            torch.nn.Module.__init__(self)  # Linear's own would draw a matrix first
            self.in_features, self.out_features = layer.in_features, layer.out_features
            bits, scale = encode(layer.weight)
            self.weight = torch.nn.Parameter(bits, requires_grad=False)
            self.register_buffer("scale", scale)
            self.bias = layer.bias

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
            kind = input.device.type
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
            product: Tensor = Product.apply(input.to(dtype), self.weight, self.scale, self.bias)  # type: ignore[no-untyped-call]  # torch's
            return product

    return Float8Linear
