"""The denoising loss against diffusers' own arithmetic."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from brushwork.errors import ConfigError
from brushwork.objectives.denoising import Config, min_snr_weights

SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _family(prediction: str) -> Any:
    scheduler = DDPMScheduler(**SCHEDULE, prediction_type=prediction)
    return SimpleNamespace(prediction=prediction, alphas_cumprod=scheduler.alphas_cumprod.double())


def _task(family: Any, predict: Any, latents: torch.Tensor, noise: torch.Tensor, uniform: torch.Tensor) -> Any:
    return SimpleNamespace(family=family, predict=predict, latents=latents, noise=noise, uniform=uniform)


def _predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    return torch.tanh(latents) + timesteps.view(-1, 1, 1, 1) / 1000


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_losses_equal_diffusers_training_script(prediction: str, gamma: float | None) -> None:
    """The arithmetic of train_text_to_image.py: add_noise, get_velocity, compute_snr, mean over all but the batch."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 16, 4, 8, 8, generator=generator)
    uniform = torch.rand(16, generator=generator)
    losses = Config(snr_gamma=gamma).build().losses(_task(_family(prediction), _predict, latents, noise, uniform))

    scheduler = DDPMScheduler(**SCHEDULE, prediction_type=prediction)
    timesteps = (uniform * 1000).long()
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    expected = (_predict(scheduler.add_noise(latents, noise, timesteps), timesteps) - target).square().mean((1, 2, 3))
    if gamma is not None:
        snr = compute_snr(scheduler, timesteps)
        weights = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
        expected = expected * weights / (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)


def test_a_perfect_prediction_has_no_loss() -> None:
    family = _family("v_prediction")
    latents, noise = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    uniform = torch.tensor([0.0, 0.3, 0.6, 0.999])
    a = family.alphas_cumprod[(uniform * 1000).long()].float().view(-1, 1, 1, 1)
    velocity = a.sqrt() * noise - (1 - a).sqrt() * latents
    losses = Config().build().losses(_task(family, lambda *_: velocity, latents, noise, uniform))
    assert losses.max() < 1e-10


def test_min_snr_leaves_noisy_steps_alone_and_damps_clean_ones() -> None:
    a = torch.tensor([0.1, 0.5, 0.99], dtype=torch.float64)  # SNR 1/9, 1, 99
    torch.testing.assert_close(
        min_snr_weights(a, "epsilon", 5.0), torch.tensor([1.0, 1.0, 5 / 99], dtype=torch.float64)
    )


def test_another_prediction_than_the_bases_is_refused_unless_forced() -> None:
    with pytest.raises(ConfigError, match="the base predicts v_prediction"):
        Config(prediction_type="epsilon").build().prediction(_family("v_prediction"))
    forced = Config(prediction_type="epsilon", force_prediction_type=True)
    assert forced.build().prediction(_family("v_prediction")) == "epsilon"
