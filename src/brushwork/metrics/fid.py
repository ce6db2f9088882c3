"""FID: the Frechet distance of Inception's features from the training pictures' (Heusel et al. 2017, arXiv:1706.08500).

As ``fd``, with the one network whose distance bears this name. Below 10,000 pictures on each side it is not comparable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.frechet import frechet_distance
from brushwork.metrics import Kind, between_sides, to_references

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "inception"
KIND = Kind("fid", "1", "lower")
ASKS = "at least four pictures of each side, and as many training pictures for target prompts"


def measure(drawn: Drawn) -> list[Result]:
    """Measure one set of prompts."""
    given = (KIND, drawn, frechet_distance, "fid")
    return to_references(*given) + between_sides(*given)
