"""What optimizers keep for each weight, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

FLOAT = 4
BY_ELEMENT = {"adamw": 2, "schedulefree": 2, "lion": 1, "prodigy": 4}
"""Tensors of a weight's size: two moments; schedule-free's point and moment; Lion's one; Prodigy's start too."""
SMALL_8BIT, BLOCK_8BIT = 4096, 256
"""bitsandbytes keeps smaller weights' moments in float32, and one scale for each so many of the others'."""


def state(kind: str, weights: Iterable[Tensor]) -> int:
    """Return the bytes of an optimizer's state over weights, as ``settings.OptimizerConfig.type`` names it."""
    return sum(_of(kind, weight) for weight in weights)


def _of(kind: str, weight: Tensor) -> int:
    count, shape = weight.numel(), tuple(weight.shape)
    if kind == "adafactor":
        if len(shape) < 2:  # noqa: PLR2004  (a vector has no rows and columns)
            return FLOAT * count
        return FLOAT * (count // shape[-1] + count // shape[-2])
    if kind == "adamw8bit":
        if count < SMALL_8BIT:
            return 2 * FLOAT * count
        return 2 * (count + FLOAT * -(-count // BLOCK_8BIT))
    if kind == "muon":
        return FLOAT * count * (1 if len(shape) >= 2 else 2)  # noqa: PLR2004  (vectors are AdamW's)
    return FLOAT * count * BY_ELEMENT[kind]
