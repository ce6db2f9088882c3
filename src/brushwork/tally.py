"""Means over samples of what an objective measures beside the loss.

tally = Tally()
tally.part()["implicit_accuracy"] = tensor      # (B,), for each micro-batch
tally.means()                                   # {"implicit_accuracy": 0.625}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Totals = dict[str, tuple[float, int]]
    Exchange = Callable[[Totals], Sequence[Totals]]


def _alone(totals: Totals) -> Sequence[Totals]:
    return [totals]


class Tally:
    """Collects numbers by name; they stay on their device until the means are asked for."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []

    def part(self) -> dict[str, Tensor]:
        """Return an empty mapping for the numbers of one micro-batch, (B,) each, without a graph behind them."""
        self._parts.append({})
        return self._parts[-1]

    def means(self, prefix: str = "", exchange: Exchange = _alone) -> dict[str, float]:
        """Return the mean of all samples by name, over all processes, each name beginning with ``prefix``.

        ``exchange`` is ``World.exchange``. An objective measures the same numbers in every micro-batch or none, and
        every process has one in each step, so all of them come here with the same names; in a validation a process may
        have had nothing to do, so there it is asked in any case.
        """
        names = dict.fromkeys(name for part in self._parts for name in part)
        own = {name: self._total(name) for name in names}
        every = exchange(own) if own or prefix else [own]
        sums: dict[str, tuple[float, int]] = {}
        for name, (total, count) in ((name, each[name]) for each in every for name in each):
            before = sums.get(name, (0.0, 0))
            sums[name] = (before[0] + total, before[1] + count)
        return {f"{prefix}{name}": total / count for name, (total, count) in sums.items()}

    def _total(self, name: str) -> tuple[float, int]:
        parts = [part[name] for part in self._parts if name in part]
        return sum(float(part.double().sum()) for part in parts), sum(len(part) for part in parts)
