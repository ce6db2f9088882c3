"""How much each timestep counts. SNR is a / (1 - a), a the schedule's alphas_cumprod.

The squared error of the clean picture is that of the noise divided by SNR, and that of the velocity divided by SNR + 1.
So a weight w of the noise's error is the weight w SNR / (SNR + 1) of the velocity's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.values import Prediction

MOST_SNR = 1000.0
"""Nearly clean pictures would otherwise count for nothing in debiased estimation; kohya's scripts clip here too."""


def min_snr(alphas_cumprod: Tensor, prediction: Prediction, gamma: float, *, keep_noisiest: bool = False) -> Tensor:
    """Return min(SNR, gamma) / SNR (epsilon) or / (SNR + 1) (v) for alphas_cumprod of any shape.

    Hang et al. 2023, arXiv:2303.09556, section 3.4. For v that leaves the noisiest timesteps nothing, while for epsilon
    they keep all their weight. With ``keep_noisiest`` v has min(SNR + 1, gamma) / (SNR + 1), as in diffusers' scripts
    of 2023, and they keep it too.
    """
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if keep_noisiest and prediction == "v_prediction":
        return (snr + 1).clamp(max=gamma) / (snr + 1)
    return snr.clamp(max=gamma) / (snr if prediction == "epsilon" else snr + 1)


def debiased(alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
    """Return 1 / sqrt(SNR) (epsilon) or sqrt(SNR) / (SNR + 1) (v), the SNR clipped at ``MOST_SNR`` from above.

    Yu et al. 2023, arXiv:2310.08442.
    """
    snr = (alphas_cumprod / (1 - alphas_cumprod)).clamp(max=MOST_SNR)
    return 1 / snr.sqrt() if prediction == "epsilon" else snr.sqrt() / (snr + 1)
