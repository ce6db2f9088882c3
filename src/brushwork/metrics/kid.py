"""KID: the unbiased kernel distance of the drawn pictures from the training pictures (arXiv:1801.01401).

In expectation 0 for equal distributions at any N, so it may be negative. On control prompts, base against tuned: there
the pictures are pairs, and a pair is left out of the mean across (``kernel_distance(paired=True)``).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from brushwork.formulas.kernels import kernel_distance
from brushwork.metrics import Kind, between_sides, to_references

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KIND = Kind("kid", "1", "lower")
ASKS = "at least four pictures of each side, and as many training pictures for target prompts"


def measure(drawn: Drawn) -> list[Result]:
    """Measure one set of prompts."""
    paired = functools.partial(kernel_distance, paired=True)
    return to_references(KIND, drawn, kernel_distance, "kid") + between_sides(KIND, drawn, paired, "kid")
