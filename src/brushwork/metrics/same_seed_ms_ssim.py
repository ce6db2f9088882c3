"""How much of a picture's structure training left, at five scales: MS-SSIM of base and tuned, 1 is unchanged.

As ``same_seed_ssim``, for pictures of at least 176 pixels a side (after the reduction to about 256).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.formulas.structure import LEAST_SIDE, SCALE_WEIGHTS, ms_ssim
from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "luminance"
KIND = Kind("same_seed_ms_ssim", "1", "higher")
RANGE = 255.0
LEAST = LEAST_SIDE * 2 ** (len(SCALE_WEIGHTS) - 1)
ASKS = f"pictures of at least {LEAST} pixels a side"


def measure(drawn: Drawn) -> list[Result]:
    """Measure the pairs; nothing for smaller pictures."""
    if min(drawn.base.shape[-2:]) < LEAST:
        return []
    values = np.array([
        [ms_ssim(one, other, RANGE) for one, other in zip(*rows, strict=True)]
        for rows in zip(drawn.base, drawn.tuned, strict=True)
    ])  # fmt: skip
    return [drawn.result(KIND, "pairs", estimate(values, drawn.seed))]
