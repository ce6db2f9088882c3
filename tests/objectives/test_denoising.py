"""The denoising loss against diffusers' own arithmetic."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from brushwork import noise as noises
from brushwork import weighting
from brushwork.errors import ConfigError
from brushwork.objectives.denoising import Config

SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _family(prediction: str) -> Any:
    scheduler = DDPMScheduler(**SCHEDULE, prediction_type=prediction)
    return SimpleNamespace(
        prediction=prediction,
        flow=None,
        alphas_cumprod=scheduler.alphas_cumprod.double(),
        scheduler_config={**SCHEDULE, "prediction_type": prediction},
    )


def _task(
    family: Any, predict: Any, latents: torch.Tensor, noise: torch.Tensor, uniform: torch.Tensor, **more: Any
) -> Any:
    plain: dict[str, Any] = {"seeds": list(range(len(latents))), "mask": None}
    return SimpleNamespace(
        family=family, predict=predict, latents=latents, noise=noise, uniform=uniform, **(plain | more)
    )


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
        weighting.min_snr(a, "epsilon", 5.0), torch.tensor([1.0, 1.0, 5 / 99], dtype=torch.float64)
    )


def test_another_prediction_than_the_bases_is_refused_unless_forced() -> None:
    with pytest.raises(ConfigError, match="the base predicts v_prediction"):
        Config(prediction_type="epsilon").build().prediction(_family("v_prediction"))
    forced = Config(prediction_type="epsilon", force_prediction_type=True)
    assert forced.build().prediction(_family("v_prediction")) == "epsilon"


def test_a_forced_prediction_is_what_the_model_is_drawn_with_too() -> None:
    family = _family("epsilon")
    Config(prediction_type="v_prediction", force_prediction_type=True).build().prepare(family)
    assert (family.prediction, family.scheduler_config["prediction_type"]) == ("v_prediction", "v_prediction")


def _random(count: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, count, 4, 8, 8, generator=generator)
    return latents, noise, torch.rand(count, generator=generator)


def test_debiased_weights_are_one_over_the_root_of_the_snr() -> None:
    a = torch.tensor([0.5, 0.9, 0.99999], dtype=torch.float64)  # SNR 1, 9, 99999 (clipped to 1000)
    expected = torch.tensor([1.0, 1 / 3, 1000**-0.5], dtype=torch.float64)
    torch.testing.assert_close(weighting.debiased(a, "epsilon"), expected)
    latents, noise, uniform = _random()
    task = _task(_family("epsilon"), _predict, latents, noise, uniform)
    plain, weighed = (Config(debiased_estimation=on).build().losses(task) for on in (False, True))
    snr = compute_snr(DDPMScheduler(**SCHEDULE), (uniform * 1000).long()).clamp(max=1000)
    torch.testing.assert_close(weighed, plain / snr.sqrt(), rtol=1e-4, atol=1e-6)


def test_min_snr_of_velocities_can_leave_the_noisiest_their_weight() -> None:
    a = torch.tensor([0.0, 0.5, 0.99], dtype=torch.float64)
    plain = weighting.min_snr(a, "v_prediction", 5.0)
    keeping = weighting.min_snr(a, "v_prediction", 5.0, keep_noisiest=True)
    torch.testing.assert_close(plain, torch.tensor([0.0, 0.5, 5 / 100], dtype=torch.float64))
    torch.testing.assert_close(keeping, torch.tensor([1.0, 1.0, 5 / 100], dtype=torch.float64))


@pytest.mark.parametrize("weights", [lambda a, p: weighting.min_snr(a, p, 5.0), weighting.debiased])
def test_noise_and_velocity_weigh_the_clean_picture_alike(weights: Any) -> None:
    """The error of x0 is that of the noise / SNR and that of the velocity / (SNR + 1)."""
    a = torch.linspace(0.01, 0.99, 20, dtype=torch.float64)
    snr = a / (1 - a)
    torch.testing.assert_close(weights(a, "epsilon") * snr, weights(a, "v_prediction") * (snr + 1))


@pytest.mark.parametrize("loss", ["huber", "smooth_l1"])
@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
def test_huber_losses_are_those_of_kohyas_scripts(loss: str, schedule: str) -> None:
    """``conditional_loss`` and ``get_huber_threshold_if_needed``, written out."""
    latents, noise, uniform = _random()
    config = Config(loss=loss, huber_c=0.2, huber_schedule=schedule)
    losses = config.build().losses(_task(_family("epsilon"), _predict, latents, noise, uniform))
    scheduler = DDPMScheduler(**SCHEDULE)
    timesteps = (uniform * 1000).long()
    a = scheduler.alphas_cumprod[timesteps]
    width = {
        "constant": torch.full((16,), 0.2),
        "exponential": torch.exp(math.log(0.2) / 1000 * timesteps),
        "snr": 0.8 / (1 + ((1 - a) / a).sqrt()) ** 2 + 0.2,
    }[schedule].view(-1, 1, 1, 1)
    difference = _predict(scheduler.add_noise(latents, noise, timesteps), timesteps) - noise
    expected = 2 * ((difference**2 + width**2).sqrt() - width) * (width if loss == "huber" else 1)
    torch.testing.assert_close(losses, expected.mean((1, 2, 3)), rtol=1e-4, atol=1e-6)


def _timesteps(config: Config, count: int = 4000) -> torch.Tensor:
    """Return the timesteps that a configuration chooses for evenly spaced numbers."""
    seen: list[torch.Tensor] = []

    def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append(timesteps)
        return latents

    latents = torch.zeros(count, 1, 1, 1)
    uniform = torch.arange(count) / count
    config.build().losses(_task(_family("epsilon"), predict, latents, latents, uniform))
    return seen[0]


def test_only_the_range_of_timesteps_that_is_asked_for_is_trained() -> None:
    times = _timesteps(Config(min_timestep=200, max_timestep=210))
    assert times.unique().tolist() == list(range(200, 210))
    assert times.bincount()[200:].tolist() == [400] * 10


def test_logit_normal_timesteps_have_the_distribution_of_the_paper() -> None:
    times = _timesteps(Config(timestep_sampling="logit_normal", logit_mean=0.5, logit_std=0.8)).double()
    quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    expected = 1000 * torch.sigmoid(0.5 + 0.8 * torch.special.ndtri(quantiles))
    torch.testing.assert_close(times.quantile(quantiles), expected, rtol=0, atol=1.5)


def test_offset_noise_shifts_whole_channels_and_pyramid_noise_is_smooth_with_deviation_1() -> None:
    plain = torch.randn(64, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    seeds = list(range(64))
    shifted = noises.offset(plain, seeds, 0.1) - plain
    assert shifted.std((2, 3)).max() < 1e-6
    assert float(shifted[:, :, 0, 0].std()) == pytest.approx(0.1, rel=0.1)
    coarse = noises.pyramid(plain, seeds, 0.8)
    torch.testing.assert_close(coarse.std((1, 2, 3)), torch.ones(64))
    neighbours = (coarse[..., 1:] * coarse[..., :-1]).mean()
    assert neighbours > 0.1 > abs(float((plain[..., 1:] * plain[..., :-1]).mean()))


@pytest.mark.parametrize("draw", [noises.offset, noises.pyramid, noises.perturbed])
def test_a_samples_noise_does_not_depend_on_its_batch(draw: Any) -> None:
    plain = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = draw(plain, [7, 8, 9], 0.5)
    assert torch.equal(draw(plain[1:2], [8], 0.5)[0], whole[1])
    assert not torch.equal(whole[1], draw(plain[1:2], [80], 0.5)[0])


def test_input_perturbation_is_in_the_input_and_not_in_the_target() -> None:
    latents, noise, uniform = _random(4)
    inputs = []

    def predict(mixed: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        inputs.append(mixed)
        return noise

    for strength in (0.0, 0.1):
        losses = (
            Config(input_perturbation=strength)
            .build()
            .losses(_task(_family("epsilon"), predict, latents, noise, uniform))
        )
        assert losses.tolist() == [0.0] * 4
    a = _family("epsilon").alphas_cumprod[(uniform * 1000).long()].float().view(-1, 1, 1, 1)
    more = (inputs[1] - inputs[0]) / (1 - a).sqrt()
    assert float(more.std()) == pytest.approx(0.1, rel=0.1)


def test_zero_terminal_snr_is_diffusers_schedule_and_ends_in_pure_noise() -> None:
    family = _family("v_prediction")
    Config(rescale_betas_zero_snr=True).build().prepare(family)
    theirs = DDPMScheduler(**SCHEDULE, rescale_betas_zero_snr=True).alphas_cumprod
    assert float(family.alphas_cumprod[-1]) == 0.0
    torch.testing.assert_close(family.alphas_cumprod.float(), theirs, rtol=1e-4, atol=1e-6)
    assert family.scheduler_config["rescale_betas_zero_snr"] is True
    latents, noise, _ = _random(2)
    losses = Config().build().losses(_task(family, _predict, latents, noise, torch.full((2,), 0.9999)))
    assert losses.isfinite().all()


def test_zero_terminal_snr_is_refused_for_a_base_that_predicts_noise() -> None:
    with pytest.raises(ConfigError, match="needs v_prediction, but here epsilon"):
        Config(rescale_betas_zero_snr=True).build().prepare(_family("epsilon"))


def test_timesteps_beyond_the_bases_schedule_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"200 to 2000 go beyond the base's schedule, which has 1000"):
        Config(min_timestep=200, max_timestep=2000).build().prepare(_family("epsilon"))


def test_masked_pixels_do_not_count_and_the_scale_stays() -> None:
    latents, noise, uniform = _random(3)
    mask = torch.zeros(3, 1, 8, 8)
    mask[0, :, :2], mask[1] = 1.0, 1.0
    wrong = noise.clone()
    wrong[0, :, 2:] += 100.0  # where it does not count
    wrong[:2, :, :2] += 2.0
    task = _task(_family("epsilon"), lambda *_: wrong, latents, noise, uniform, mask=mask)
    torch.testing.assert_close(Config().build().losses(task), torch.tensor([4.0, 1.0, 0.0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"snr_gamma": 5, "debiased_estimation": True}, "two weightings"),
        ({"noise_offset": 0.1, "pyramid_noise_discount": 0.5}, "both add coarse noise"),
        ({"min_timestep": 500, "max_timestep": 500}, "min_timestep is 500 but max_timestep is only 500"),
        ({"huber_c": 0.5}, "loss is l2, so huber_c cannot apply"),
        ({"timestep_sampling": "uniform", "logit_std": 0.5}, "timestep_sampling is uniform, so logit_std cannot apply"),
    ],
)
def test_settings_that_would_do_nothing_or_contradict_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)
