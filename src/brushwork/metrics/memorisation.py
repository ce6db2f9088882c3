"""The share of pictures that lie nearer to a training picture than 95 % of those lie to one another: copies.

About one in twenty new pictures is that near as well, and a base may know the training pictures already: the share of
the base is beside it. The closest pairs are in the details, to be looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.formulas.memorisation import find_copies
from brushwork.metrics import Kind, paired

if TYPE_CHECKING:
    from brushwork.formulas.memorisation import Copies
    from brushwork.metrics import Drawn, Result

NEEDS, ALSO = "clip", ("features",)
KIND = Kind("memorisation", "1", "lower")
ASKS = "the training pictures, where the run's configuration says they are"
MOST_SHOWN = 8


def measure(drawn: Drawn) -> list[Result]:
    """Measure base, tuned and the paired difference; nothing when the training pictures could not be read."""
    if drawn.references is None:
        return []
    shape, width = drawn.base.shape[:2], drawn.base.shape[-1]
    both = np.concatenate([side.reshape(-1, width) for side in (drawn.base, drawn.tuned)])
    found = find_copies(both, drawn.references, mirrored=drawn.mirrored)
    flags = found.flagged.astype(np.float64).reshape(2, *shape)
    before, after, change = paired(KIND, drawn, flags[0], flags[1])
    told = {
        "threshold": found.threshold,
        "training_pictures": len(drawn.references),
        "mirrored_too": drawn.mirrored is not None,
        "closest": _closest(found, drawn),
    }
    return [before, replace(after, details=told), change]


def _closest(found: Copies, drawn: Drawn) -> list[dict[str, Any]]:
    """Return the tuned pictures that lie nearest to a training picture; ``seed`` and ``training`` are places."""
    seeds, count = drawn.base.shape[1], len(found.similarity) // 2
    order = np.argsort(-found.similarity[count:], kind="stable")[:MOST_SHOWN]
    return [
        {
            "prompt": drawn.prompts[place // seeds],
            "seed": place % seeds,
            "training": int(found.nearest[count + place]),
            "similarity": float(found.similarity[count + place]),
            "mirrored": bool(found.is_mirrored[count + place]),
            "flagged": bool(found.flagged[count + place]),
        }
        for place in order.tolist()
    ]
