"""How long a run will take, from its own first steps; and what is said when it begins."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from brushwork.forecast import estimate
from brushwork.progress import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brushwork.forecast.estimate import Forecast
    from brushwork.train import Step, Trainer

WARM_UP, TIMED = 1, 2
"""The first step allocates and chooses kernels; the next ones are as all the others."""
SMALL = 20e6
"""Denoisers of fewer parameters fit everywhere; a run with one does not stop to rehearse."""


def timed(forecast: Forecast, steps: Iterator[Step]) -> Forecast:
    """Return the forecast with the time of a step, of a few that are done for it."""
    seconds = [step.seconds for step in itertools.islice(steps, WARM_UP + TIMED)]
    return replace(forecast, seconds_per_step=statistics.fmean(seconds[WARM_UP:] or seconds))


def clock(total: int) -> Callable[[Step], None]:
    """Return what is shown each step and says once, after a few, how long the rest will take."""
    seen: list[float] = []

    def see(step: Step) -> None:
        seen.append(step.seconds)
        if len(seen) == WARM_UP + TIMED and step.index < total:
            each = statistics.fmean(seen[WARM_UP:])
            left = estimate.duration(each * (total - step.index))
            note(f"  {each:.3g} s a step: about {left} to go, samples and checkpoints apart")

    return see


def told(trainer: Trainer) -> dict[str, Any]:
    """Say the forecast of a run that begins, and return it for the run's record; nothing for a small base."""
    if sum(each.numel() for each in trainer.family.denoiser.parameters()) < SMALL:
        return {}
    forecast = estimate.of(trainer)
    for line in forecast.lines():
        note(f"  {line}")
    return {"forecast": forecast.to_json()}
