"""CLIP-T against the whole text, with the words of the style or token; beside `clip`, which is against the content.

With both, on pictures drawn from the target prompts and from the content prompts, a style's experiment is the two by
two table that it is: {drawn plain, drawn with the style's words} x {scored plain, scored with them}. Holding a
picture that was asked for a style against a text that names it mixes up whether the content is there
with whether the style is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.metrics import Kind, paired
from brushwork.metrics.clip import prompt_similarity

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "clip"
KIND = Kind("clip_styled", "1", "higher")
ASKS = "content prompts beside the target prompts"


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference; nothing where there is no style or token in the texts."""
    if drawn.whole_texts is None or drawn.prompt_set == "control":
        return []
    base, tuned = (prompt_similarity(side, drawn.whole_texts) for side in (drawn.base, drawn.tuned))
    return paired(KIND, drawn, base, tuned)
