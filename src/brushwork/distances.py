"""How far a prediction is from its target: one number for each sample.

errors = per_sample(squared(predicted, target), mask)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Schedule = Literal["constant", "exponential", "snr"]


def squared(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each element."""
    return (predicted.float() - target.float()).square()


def huber(predicted: Tensor, target: Tensor, c: Tensor, *, smooth_l1: bool = False) -> Tensor:
    """Return the pseudo-Huber error of each element: squared when small, growing linearly when large.

    2 c (sqrt(d^2 + c^2) - c), or without the factor c for ``smooth_l1`` (Khrapov et al. 2024, arXiv:2403.16728, in
    the form of kohya's scripts and diffusers' training examples).

    Args:
        predicted: (B, C, H, W).
        target: (B, C, H, W).
        c: (B,), where the one turns into the other.
        smooth_l1: Which of the two.
    """
    width = c.view(-1, 1, 1, 1).float()
    distance = 2 * ((squared(predicted, target) + width**2).sqrt() - width)
    return distance if smooth_l1 else width * distance


def huber_width(c: float, schedule: Schedule, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return each sample's c (B,): ``c`` itself, or falling from 1 to ``c`` with the noise.

    Khrapov et al. 2024: where there is little noise, outliers show and should not rule; where there is much, the
    squared error learns the picture's outline best. So c is largest for clean pictures and the schedules differ in how
    it falls.

    Args:
        c: The smallest width.
        schedule: ``exponential`` is c^(t / T), ``snr`` is (1 - c) / (1 + sigma)^2 + c, sigma^2 = 1 / SNR.
        timesteps: (B,).
        alphas_cumprod: (T,).
    """
    import torch

    if schedule == "exponential":
        return torch.exp(math.log(c) * timesteps / len(alphas_cumprod))
    if schedule == "snr":
        a = alphas_cumprod[timesteps]
        return (1 - c) / (1 + ((1 - a) / a).sqrt()) ** 2 + c
    return torch.full(timesteps.shape, c, device=timesteps.device)


def per_sample(errors: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean error of each sample (B,), over what its mask (B, 1, H, W) lets count.

    The sum is divided by the mask's own sum, so that a small mask gives a loss of the usual size. A mask that lets
    nothing count (a random crop beside the subject) gives 0.
    """
    if mask is None:
        return errors.flatten(1).mean(1)
    counted = (errors * mask).flatten(1).sum(1)
    return counted / (mask.flatten(1).sum(1) * errors.shape[1]).clamp(min=1e-6)
