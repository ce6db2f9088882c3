"""PickScore: which of two pictures people would have picked for a prompt (Kirstain et al. 2023, arXiv:2305.01569).

The model's temperature times the cosine of picture and prompt; only differences at the same prompt mean something. It
learnt from votes on pictures of 2023: it likes detail and saturated colour, and marks a deliberate style down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "pickscore"
KIND = Kind("pickscore", "1", "higher")
ASKS = "the extractor pickscore:yuvalkirstain/PickScore_v1"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference; ``share_picked`` counts pictures that beat the base's."""
    if drawn.texts is None:
        return []
    texts = drawn.scale * drawn.texts.astype(np.float64)
    base, tuned = (np.einsum("pnd,pd->pn", side.astype(np.float64), texts) for side in (drawn.base, drawn.tuned))
    before, after, change = paired(KIND, drawn, base, tuned)
    picked = float(np.mean((tuned > base) + 0.5 * (tuned == base)))
    return [before, after, replace(change, details=change.details | {"share_picked": picked})]
