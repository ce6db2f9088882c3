"""The Frechet distance of the drawn pictures' features from the training pictures', by any encoder but FID's.

Target prompts: how far base and tuned lie from the data. Control prompts: how far tuned lies from base. It falls with N
and is never shown without its noise floor; below 10,000 pictures it is not comparable with published numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.frechet import frechet_distance
from brushwork.metrics import Kind, between_sides, to_references

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KIND = Kind("fd", "1", "lower")
ASKS = "at least four pictures of each side, and as many training pictures for target prompts"


def measure(drawn: Drawn) -> list[Result]:
    """Measure one set of prompts; nothing by Inception, whose distance has a name of its own."""
    if drawn.encoder.startswith("inception:"):
        return []
    given = (KIND, drawn, frechet_distance, "fd")
    return to_references(*given) + between_sides(*given)
