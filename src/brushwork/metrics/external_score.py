"""The scores of a program of your own, ``external:COMMAND``: base, tuned and the paired difference.

What they mean, and whether high is good, the program's author knows; here they are only held to the same statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "score"
KIND = Kind("external_score", "1", "higher")
ASKS = "an extractor external:COMMAND that gives scores"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference of scores (P, N)."""
    return paired(KIND, drawn, drawn.base, drawn.tuned)
