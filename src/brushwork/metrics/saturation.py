"""How colourful: the mean HSV saturation of the pictures, in [0, 1]. A technical check that needs no judge.

An ink drawing on paper is grey whatever it shows, so for such a style this number says whether the style arrived. It is
read against the training pictures' own saturation, where those are given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brushwork.metrics import Kind, estimate, paired

if TYPE_CHECKING:
    from brushwork.metrics import Array, Drawn, Result

NEEDS = "colour"
KIND = Kind("saturation", "1", "closer")
ASKS = "pictures"


def scores(images: Array, texts: Array | None = None) -> Array:  # noqa: ARG001  (no prompt is needed)
    """Return the saturation of each picture, (P, N), from its features (P, N, D)."""
    return images[..., 0]


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned, the paired difference, and the training pictures (direction: closer to those)."""
    base, tuned = (scores(side) for side in (drawn.base, drawn.tuned))
    before, after, difference = paired(KIND, drawn, base, tuned)
    details = {**difference.details, "ratio": after.value / before.value if before.value else None}
    results = [before, after, replace(difference, details=details)]
    if drawn.references is not None:
        # Every training picture is a cluster of its own.
        results.append(drawn.result(KIND, "data", estimate(drawn.references[:, :1], drawn.seed)))
    return results
