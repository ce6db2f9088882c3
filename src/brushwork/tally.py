"""Means over samples of what an objective measures beside the loss.

tally = Tally()
tally.part()["implicit_accuracy"] = tensor      # (B,), for each micro-batch
tally.means()                                   # {"implicit_accuracy": 0.625}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Tally:
    """Collects numbers by name; they stay on their device until the means are asked for."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []

    def part(self) -> dict[str, Tensor]:
        """Return an empty mapping for the numbers of one micro-batch, (B,) each, without a graph behind them."""
        self._parts.append({})
        return self._parts[-1]

    def means(self, prefix: str = "") -> dict[str, float]:
        """Return the mean of all samples by name, each name beginning with ``prefix``."""
        import torch

        names = dict.fromkeys(name for part in self._parts for name in part)
        every = {name: torch.cat([part[name] for part in self._parts if name in part]) for name in names}
        return {f"{prefix}{name}": float(numbers.double().mean()) for name, numbers in every.items()}
