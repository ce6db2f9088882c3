"""Fit: the mean cosine of each picture with the training pictures (CLIP-I, Ruiz et al. 2022, arXiv:2208.12242).

Copies of the training pictures score highest, so it is read beside memorisation. In the form of a metric of the
registry, for `compare`, which needs it whichever metrics there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.similarity import reference_similarity
from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "clip"
KIND = Kind("reference_similarity", "1", "higher")


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference; nothing without training pictures."""
    references = drawn.references
    if references is None:
        return []

    def scores(images: Array) -> Array:
        flat = reference_similarity(images.reshape(-1, images.shape[-1]), references)
        fits: Array = flat.reshape(images.shape[:2])
        return fits

    return paired(KIND, drawn, scores(drawn.base), scores(drawn.tuned))
