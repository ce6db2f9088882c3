"""DINO-I: how like the training pictures the drawn ones are, the mean cosine with all of them (arXiv:2208.12242).

Closer to which thing it is than CLIP-I, and sensitive to pose and background. Read it below its ceiling, which is what
the training pictures reach among themselves (``data``), above the base's, and beside the copies: a copy is the best
likeness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.metrics import Kind, likeness

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "dino"
KIND = Kind("dino_i", "1", "higher")
ASKS = "target prompts and the training pictures"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned, the paired difference, and the ceiling."""
    return likeness(KIND, drawn)
