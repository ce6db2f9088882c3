"""CLIP-T: does the picture show what the prompt says? The raw cosine of picture and prompt, in [-1, 1].

The value is not multiplied, and negative cosines are kept. The two scalings in use are in the details of base and
tuned: ``percent`` is 100 max(cos, 0) as in torchmetrics, ``hessel`` 2.5 max(cos, 0) (Hessel et al. 2021,
arXiv:2104.08718; without the "A photo depicts" that they put before each text). Numbers of different judges must not be
compared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.similarity import clip_score
from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "clip"
KIND = Kind("clip", "1", "higher")
ASKS = "a judge that reads texts"


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
    before, after, change = paired(KIND, drawn, base, tuned)
    return [replace(before, details=_scaled(base)), replace(after, details=_scaled(tuned)), change]


def _scaled(cosines: Array) -> dict[str, float]:
    return {name: float(clip_score(cosines, name).mean()) for name in ("percent", "hessel")}
