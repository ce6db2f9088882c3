"""What a prediction says about the clean picture and about the noise in it. Shape letters: B batch, C H W.

    clean, noise = split(predicted, noisy, alphas_cumprod[timesteps], "v_prediction")

x_t = sqrt(a) x0 + sqrt(1 - a) noise            (DDPM, Ho et al. 2020, arXiv:2006.11239, equation 4)
v   = sqrt(a) noise - sqrt(1 - a) x0            (Salimans & Ho 2022, arXiv:2202.00512, appendix D)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.values import Prediction


def coefficients(alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """Return sqrt(a) and sqrt(1 - a), float32 and (B, 1, 1, 1), for a of shape (B,)."""
    a = alphas_cumprod.view(-1, 1, 1, 1)
    return a.sqrt().float(), (1 - a).sqrt().float()


def mix(clean: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return x_t, (B, C, H, W), of clean latents and noise of that shape at ``alphas_cumprod`` (B,)."""
    signal, sigma = coefficients(alphas_cumprod)
    return signal * clean.float() + sigma * noise.float()


def split(predicted: Tensor, noisy: Tensor, alphas_cumprod: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """Return the clean latents and the noise that a prediction implies: ``mix`` of the two is ``noisy`` again.

    Args:
        predicted: What the model said, (B, C, H, W).
        noisy: What it was shown, x_t, (B, C, H, W).
        alphas_cumprod: Of its timestep, (B,).
        prediction: What the model predicts, ``epsilon`` or ``v_prediction``.

    Returns:
        Both float32 (B, C, H, W).
    """
    signal, sigma = coefficients(alphas_cumprod)
    said, x = predicted.float(), noisy.float()
    if prediction == "epsilon":
        return (x - sigma * said) / signal, said
    assert prediction == "v_prediction", prediction
    return signal * x - sigma * said, signal * said + sigma * x
