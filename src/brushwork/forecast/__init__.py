"""Will it fit, how long will it take: memory, disk and time of a run, before it runs.

    forecast = of(trainer)
    for line in forecast.lines():
        print(line)

Nothing is computed for it: ``brushwork.forecast.tracking`` rehearses the run's own modules without numbers.
``benchmarks/memory.py`` holds it against what processes really took.
"""

from __future__ import annotations

from brushwork.forecast.advice import explaining_out_of_memory, next_cheaper
from brushwork.forecast.estimate import Forecast, Phase, of
from brushwork.forecast.timing import clock, timed, told

__all__ = ["Forecast", "Phase", "clock", "explaining_out_of_memory", "next_cheaper", "of", "timed", "told"]
