"""The proof that a file is what it should be: read back, the weights change by as much, and a picture is the same.

before = picture(model.family, "a drawing")
...
Proof("diffusers", layers=128, delta=0.0, picture=difference(before, picture(again, "a drawing")))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from brushwork.formats.layers import Layer
    from brushwork.settings import Sampling
    from brushwork.values import Family

PROMPT, STEPS, SIDE = "a drawing of a cat", 4, 256
"""Pixels a side at most: one model is compared with itself, and a large one takes minutes for a full picture."""
DELTAS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
"""How far a change of the weights may be off, of the largest; a few roundings in each type."""
PICTURES = {"float32": 2.0, "float16": 16.0, "bfloat16": 64.0}
"""How far a pixel may be off, of 255: few steps carry a rounding of the weights on to the picture."""


@dataclass(frozen=True)
class Proof:
    """What reading back showed."""

    reader: str
    """Who read it."""
    tensors: int
    """How many layers or tensors were compared."""
    delta: float
    """The largest difference of a weight's change, of the largest change."""
    picture: float
    """The largest difference of a pixel, of 255, of one picture drawn with each."""
    effect: float
    """How far that picture is from the base's own; 0 for a model that changes nothing. Of a whole model: -1."""
    dtype: str = "float32"

    def __str__(self) -> str:
        same = "the same" if self.delta == 0 else f"the same within {self.delta:.1e}"
        drawn = "the same picture" if self.picture == 0 else f"the same picture within {self.picture:g}/255"
        nothing = " It changes nothing of that picture." if self.effect == 0 else ""
        return f"Read back by {self.reader}: weights {same} ({self.tensors} compared), {drawn}.{nothing}"


def check(proof: Proof, path: Path) -> None:
    """Raise if a file is not what it should be.

    Raises:
        RunFailed: It is not; with the numbers.
    """
    if not proof.delta <= DELTAS[proof.dtype] or not proof.picture <= PICTURES[proof.dtype]:
        message = (
            f"export: {path} does not say the same when it is read back by {proof.reader}: its weights are off by "
            f"{proof.delta:.1e} and a picture by {proof.picture:g}/255. It was removed; this is a fault of brushwork."
        )
        raise RunFailed(message)


def picture(family: Family, prompt: str, wanted: Sampling | None = None) -> NDArray[np.float64]:
    """Draw one small proof: pixels (H, W, 3) from 0 to 255."""
    import numpy as np

    from brushwork import generate

    settings: dict[str, Any] = {"steps": STEPS, "sampler": "DDIM"}
    if wanted is not None:
        settings = {
            "steps": min(STEPS, wanted.steps),
            "sampler": wanted.sampler,
            "guidance_scale": wanted.guidance_scale,
        }
    side = max(min(family.resolution, SIDE) // family.size_multiple, 1) * family.size_multiple
    (drawn,) = generate.draw(family, [generate.Request(prompt, width=side, height=side, **settings)])
    return np.asarray(drawn.image, np.float64)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest difference of two pictures."""
    return float(abs(one - other).max())


def largest_delta(ours: Mapping[str, Layer], back: Mapping[str, Layer]) -> float:
    """Return by how much the updates differ, of the largest; infinity where a layer is missing or was never there."""
    if set(ours) != set(back):
        return float("inf")
    worst = 0.0
    for key, layer in ours.items():
        shape = layer.shape
        one, other = layer.delta(shape), back[key].delta(shape)
        worst = max(worst, _relative(one, other))
        if ("magnitude" in layer.tensors) != ("magnitude" in back[key].tensors):
            return float("inf")
        if "magnitude" in layer.tensors:
            worst = max(worst, _relative(layer.tensors["magnitude"].float(), back[key].tensors["magnitude"].float()))
    return worst


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    size = float(one.abs().max())
    return float((one - other).abs().max()) / size if size else float((other != 0).any())


def type_name(dtype: torch.dtype | None) -> str:
    """Return ``float16`` for ``torch.float16``, float32 where nothing was said."""
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")
