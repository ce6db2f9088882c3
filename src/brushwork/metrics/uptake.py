"""Uptake: how like the training pictures it draws; where a prompt asks for them that is fit, elsewhere a leak.

The mean cosine of each picture with all training pictures (CLIP-I of DreamBooth, Ruiz et al. 2022, arXiv:2208.12242).
Of target prompts it says how much of the style or subject was taken up. Of content prompts (the class without its
token) and of held-out prompts the difference of tuned and base is what leaked: 0 is no leak, DreamBooth's PRES less
what the base has by itself. Copies score highest: read it beside `memorisation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.formulas.similarity import reference_similarity
from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "clip"
KIND = Kind("uptake", "1", "closer")
ASKS = "the training pictures, where the run's configuration says they are"


def to_references(images: Array, references: Array) -> Array:
    """Return the mean cosine of pictures (P, N, D) with all references (R, D): (P, N)."""
    flat: Array = reference_similarity(images.reshape(-1, images.shape[-1]), references)
    return flat.reshape(images.shape[:2])


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference; nothing when the training pictures could not be read."""
    if drawn.references is None:
        return []
    base, tuned = (to_references(side, drawn.references) for side in (drawn.base, drawn.tuned))
    kind = KIND._replace(direction="higher") if drawn.prompt_set == "target" else KIND
    return paired(kind, drawn, base, tuned)
