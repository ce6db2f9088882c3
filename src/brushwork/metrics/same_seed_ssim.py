"""How much of a picture's structure training left: SSIM of base and tuned at the same seed, 1 is unchanged.

On the luminance, at most about 256 pixels a side. It says how much changed, not how good it is: on control prompts
higher is better, on target prompts neither. Two seeds of the base, in the details, show what unrelated pictures reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.structure import LEAST_SIDE, ssim_of_planes
from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "luminance"
KIND = Kind("same_seed_ssim", "1", "higher")
ASKS = "pictures of at least 11 pixels a side"
RANGE = 255.0


def measure(drawn: Drawn) -> list[Result]:
    """Measure the pairs; nothing for pictures smaller than SSIM's window."""
    if min(drawn.base.shape[-2:]) < LEAST_SIDE:
        return []
    base, tuned = drawn.base.astype(np.float64), drawn.tuned.astype(np.float64)
    values = ssim_of_planes(base, tuned, RANGE)
    rows = [
        {"prompt": text, "ssim": float(each)} for text, each in zip(drawn.prompts, values.mean(axis=1), strict=True)
    ]
    several = base.shape[1] > 1
    other_seed = float(ssim_of_planes(base[:, :-1], base[:, 1:], RANGE).mean()) if several else None
    return [drawn.result(KIND, "pairs", estimate(values, drawn.seed), other_seed=other_seed, prompts=rows)]
