"""CMMD: the kernel distance of CLIP features from the training pictures' (Jayasumana et al. 2024, arXiv:2401.09603).

On unit vectors, sigma 10, 1000 times the biased estimate. The published numbers are CLIP ViT-L/14-336's; another
model's do not compare with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.kernels import cmmd
from brushwork.metrics import Kind, between_sides, to_references

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "clip"
KIND = Kind("clip_mmd", "1", "lower")
ASKS = "at least four pictures of each side, and as many training pictures for target prompts"


def measure(drawn: Drawn) -> list[Result]:
    """Measure one set of prompts."""
    given = (KIND, drawn, cmmd, "cmmd")
    return to_references(*given) + between_sides(*given)
