"""CLIP directional similarity: did the picture change as the words for the style change the text? arXiv:2108.00946.

The cosine of f(tuned) - f(base) with g(prompt in the style) - g(plain prompt), in [-1, 1]; 0 is any other direction,
and no change at all. The style's words are ``validation.style_template``, or what the training captions share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.similarity import directional_similarity
from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "clip"
KIND = Kind("direction", "1", "higher")
ASKS = "words for the style, shared by the training captions or given as validation.style_template"


def measure(drawn: Drawn) -> list[Result]:
    """Measure the pairs."""
    if drawn.plain_texts is None or drawn.style_texts is None:
        return []
    prompts, seeds, width = drawn.base.shape
    base, tuned = (side.reshape(-1, width) for side in (drawn.base, drawn.tuned))
    plain, styled = (np.repeat(texts, seeds, axis=0) for texts in (drawn.plain_texts, drawn.style_texts))
    values = directional_similarity(base, tuned, plain, styled).reshape(prompts, seeds)
    rows = [
        {"prompt": text, "direction": float(each)}
        for text, each in zip(drawn.prompts, values.mean(axis=1), strict=True)
    ]
    return [drawn.result(KIND, "pairs", estimate(values, drawn.seed), prompts=rows)]
