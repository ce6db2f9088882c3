"""Does a captioner find in the picture what the prompt asked for? The cosine of caption and prompt in a judge's eyes.

In [-1, 1]. It asks two networks, so both must know the things; unlike CLIP-T it is not raised by text in the picture,
and a captioner that knows few words makes all pictures alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "caption_text"
KIND = Kind("caption_faithfulness", "1", "higher")
ASKS = "a captioner and a judge that reads texts"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference."""
    if drawn.texts is None:
        return []
    texts = drawn.texts.astype(np.float64)
    base, tuned = (np.einsum("pnd,pd->pn", side.astype(np.float64), texts) for side in (drawn.base, drawn.tuned))
    return paired(KIND, drawn, base, tuned)
