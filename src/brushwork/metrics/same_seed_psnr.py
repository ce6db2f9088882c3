"""How far the pixels moved: the peak signal-to-noise ratio of base and tuned at the same seed, in dB.

On the luminance, as ``same_seed_ssim``. Pictures that are equal would be infinite and count as 100 dB; 8-bit pictures
that differ in a single grey level of a single pixel of 256 x 256 have 96.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brushwork.metrics import Kind, estimate

if TYPE_CHECKING:
    from brushwork.metrics import Drawn, Result

NEEDS = "luminance"
KIND = Kind("same_seed_psnr", "1", "higher")
ASKS = "pictures"
RANGE, EQUAL = 255.0, 100.0


def measure(drawn: Drawn) -> list[Result]:
    """Measure the pairs."""
    error = np.square(drawn.base.astype(np.float64) - drawn.tuned).mean(axis=(-2, -1))
    least = RANGE**2 / 10 ** (EQUAL / 10)
    values = 10 * np.log10(RANGE**2 / np.maximum(error, least))
    equal = int((error == 0).sum())
    return [drawn.result(KIND, "pairs", estimate(values, drawn.seed), equal_pictures=equal)]
