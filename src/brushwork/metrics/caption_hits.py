"""How often a captioner names the style: the share of pictures whose caption holds one of its words.

The words are ``validation.style_words``, or what the training captions, and the captioner's captions of the training
pictures, have in common. Captioners say "a painting of" of much: read tuned against base. p is McNemar's over pictures,
which speaks about these prompts; the one over prompts is in the details, with what was said.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from brushwork import styles
from brushwork.metrics import Kind, paired
from brushwork.statistics import mcnemar_test, wilson_interval

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "captions"
KIND = Kind("caption_hits", "1", "higher")
ASKS = "words for the style, found in the training data or given as validation.style_words"
MOST_SHOWN = 96


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference."""
    if not drawn.words:
        return []
    base, tuned = (styles.hits(side, drawn.words) for side in (drawn.base, drawn.tuned))
    before, after, change = paired(KIND, drawn, base.astype(np.float64), tuned.astype(np.float64))
    gained, lost = int((tuned & ~base).sum()), int((base & ~tuned).sum())
    known = {"words": list(drawn.words)}
    counts = {"gained": gained, "lost": lost, "p_over_prompts": change.p}
    rates = [
        replace(result, interval=wilson_interval(int(hits.sum()), hits.size), details=known | {"captions": _said(side)})
        for result, hits, side in ((before, base, drawn.base), (after, tuned, drawn.tuned))
    ]
    p, least = mcnemar_test(gained, lost), mcnemar_test(gained + lost, 0)
    return [*rates, replace(change, p=p, smallest_p=least, details=change.details | known | counts)]


def _said(side: Array) -> list[str]:
    captions: list[str] = side.ravel()[:MOST_SHOWN].tolist()
    return captions
