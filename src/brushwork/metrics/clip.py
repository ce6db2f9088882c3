"""CLIP-T: does the picture show what the prompt says? The raw cosine of picture and prompt, in [-1, 1].

Not multiplied by 100 (torchmetrics) or 2.5 (Hessel et al., arXiv 2104.08718), and negative values are kept. Numbers of
different judges must not be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "clip"
KIND = Kind("clip", "1", "higher")


def prompt_similarity(images: Array, texts: Array) -> Array:
    """Return the cosine of each picture (P, N, D) with its own prompt (P, D): (P, N). Features are unit vectors."""
    cosines: Array = np.einsum("pnd,pd->pn", images.astype(np.float64), texts.astype(np.float64))
    return cosines


def scores(images: Array, texts: Array | None) -> Array:
    """Return each picture's cosine with its prompt, (P, N)."""
    assert texts is not None, "a CLIP model reads texts"
    return prompt_similarity(images, texts)


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference."""
    if drawn.texts is None:
        return []
    base, tuned = (scores(side, drawn.texts) for side in (drawn.base, drawn.tuned))
    return paired(KIND, drawn, base, tuned)
