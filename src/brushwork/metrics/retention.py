"""Retention: which share of its likeness to held-out prompts the model kept, and which prompts lost most.

CLIP-T of tuned over that of base. A picture of something else has a cosine well above 0 too, so the ratio looks better
than it is: beside it stands the same above the floor, the mean cosine of the base's pictures with the *other* prompts.
Means hide what happens to single things (open-world forgetting, arXiv:2410.14159): the worst tenth is listed by name.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.formulas.similarity import similarity_matrix, summarise_similarity
from brushwork.metrics import Estimate, Kind
from brushwork.metrics.clip import prompt_similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.metrics import Array, Drawn, Result

NEEDS = "clip"
KIND = Kind("retention", "1", "higher")
ASKS = "held-out prompts and a judge that reads texts"
UNKNOWN = "to this judge the base itself draws these prompts no better than others"
WORST_SHARE = 0.1
DRAWS = 10_000


def worst(prompts: Sequence[str], base: Array, tuned: Array) -> list[dict[str, Any]]:
    """Return the tenth of the prompts that lost most, at least one, from means by prompt (P,); none that gained."""
    lost = np.asarray(tuned - base)
    order = np.argsort(lost, kind="stable")[: math.ceil(WORST_SHARE * len(prompts))]
    return [
        {
            "prompt": prompts[place],
            "base": float(base[place]),
            "tuned": float(tuned[place]),
            "difference": float(lost[place]),
        }
        for place in order.tolist()
        if lost[place] < 0
    ]


def ratio_interval(base: Array, tuned: Array, seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of the ratio of two means over prompts (P,), by prompts; None for a single one."""
    count = len(base)
    if count == 1:
        return None
    order = np.lexsort((tuned, base))  # the prompts' order must not matter
    places = np.random.default_rng(seed).integers(0, count, (DRAWS, count))
    below = base[order][places].mean(axis=1)
    if not (below > 0).all():
        return None
    low, high = np.percentile(tuned[order][places].mean(axis=1) / below, [2.5, 97.5])
    return float(low), float(high)


def measure(drawn: Drawn) -> list[Result]:
    """Measure the held-out prompts."""
    if drawn.texts is None or drawn.prompt_set != "control":
        return []
    base, tuned = (prompt_similarity(side, drawn.texts).mean(axis=1) for side in (drawn.base, drawn.tuned))
    mean, width = float(base.mean()), drawn.base.shape[-1]
    if mean == 0:
        return []
    kept = Estimate(float(tuned.mean()) / mean, ratio_interval(base, tuned, drawn.seed), drawn.base[..., 0].size)
    summary = summarise_similarity(similarity_matrix(drawn.base.reshape(-1, width), drawn.texts))
    floor = summary.off_diagonal if len(drawn.prompts) > 1 else None
    known = mean > max(0.0, floor or 0.0)
    above = (float(tuned.mean()) - floor) / (mean - floor) if floor is not None and known else None
    details = {"others": floor, "above_floor": above, "worst": worst(drawn.prompts, base, tuned)}
    told = "; ".join(each for each in (drawn.caveat, None if known else UNKNOWN) if each) or None
    return [replace(drawn, caveat=told).result(KIND, "tuned", kept, **details)]
