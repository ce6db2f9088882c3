"""Stops a run whose numbers broke, with the cause, warns when they are about to, and looks at the time."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brushwork.errors import Diverged

if TYPE_CHECKING:
    from collections.abc import Sequence

RECENT = 50
ALARM = 20.0
"""A gradient norm this many times the median of the last RECENT steps is worth a warning."""


@dataclass
class Watch:
    """Remembers the recent gradient norms, and the seconds that the steps took."""

    norms: list[float] = field(default_factory=list)
    limit: float | None = None
    """So many seconds of steps, then it is over; None: no limit."""
    spent: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the time is used up."""
        return self.limit is not None and self.spent >= self.limit

    def stop_if_diverged(
        self, index: int, losses: Sequence[float], names: Sequence[str], norm: float, rate: float
    ) -> None:
        """Stop before the weights are touched.

        Raises:
            Diverged: A loss or the gradient's norm is NaN or infinite.
        """
        bad = [name for name, loss in zip(names, losses, strict=True) if not math.isfinite(loss)]
        if not bad and math.isfinite(norm):
            return
        what = f"the loss of {', '.join(bad[:3])} is not a number" if bad else "a gradient is infinite"
        message = (
            f"Step {index}: {what} (learning rate {rate:g}, gradient norm {norm:g}). The last checkpoint is kept.\n"
            f"Lower optimizer.learning_rate, set optimizer.max_grad_norm=1, or use train.mixed_precision=bf16 or no."
        )
        raise Diverged(message)

    def alarm(self, index: int, norm: float) -> str | None:
        """Remember a gradient norm; return a warning when it is far above the recent ones."""
        recent = self.norms[-RECENT:]
        self.norms = [*recent, norm]
        if len(recent) < RECENT or norm < ALARM * statistics.median(recent):
            return None
        usual = statistics.median(recent)
        return f"Step {index}: the gradient norm jumped to {norm:.3g} (usually {usual:.3g}). A lower rate is safer."
