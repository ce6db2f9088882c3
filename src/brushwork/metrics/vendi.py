"""How many different pictures a prompt gives over its seeds: the Vendi score, between 1 and the number of seeds.

Friedman and Dieng 2022, arXiv:2210.02410. It cannot exceed the number of seeds, so only runs with as many compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.diversity import vendi_score
from brushwork.metrics import Kind, of_seeds

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KIND = Kind("vendi", "1", "higher")
ASKS = "at least two seeds for each prompt"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference, mean over prompts; nothing with a single seed."""
    return of_seeds(KIND, drawn, vendi_score)
