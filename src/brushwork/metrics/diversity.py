"""How different the pictures of one prompt are: 1 - the mean cosine over all pairs of its seeds.

0 says that every seed gives the same picture: a collapsed model. Garbage is diverse too, so read it beside CLIP-T.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.diversity import pairwise_diversity
from brushwork.metrics import Kind, of_seeds

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KIND = Kind("diversity", "1", "higher")
ASKS = "at least two seeds for each prompt"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference, mean over prompts; nothing with a single seed."""
    return of_seeds(KIND, drawn, pairwise_diversity)
