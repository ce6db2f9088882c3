"""Flow matching against diffusers' schedulers and training utilities, and against closed forms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3

from brushwork import flow, samplers
from brushwork.errors import ConfigError
from brushwork.objectives.denoising import Config
from brushwork.values import Flow, Task

COUNT = 20_000


def family(**settings: Any) -> Any:
    return SimpleNamespace(
        name="made up",
        prediction="flow",
        flow=Flow(**settings),
        alphas_cumprod=flow.schedule(),
        scheduler_config={},
        predict=lambda latents, *_: torch.zeros_like(latents),
    )


def task(of: Any, count: int = COUNT) -> Task:
    uniform = (torch.arange(count) + 0.5) / count
    latents, noise = torch.randn(2, count, 2, 4, 4).unbind(0)
    return Task(of, SimpleNamespace(), SimpleNamespace(), [], latents, noise, uniform, seeds=range(count))  # type: ignore[arg-type]


def quantiles(values: torch.Tensor) -> torch.Tensor:
    return torch.quantile(values.double(), torch.linspace(0.05, 0.95, 19, dtype=torch.float64))


@pytest.mark.parametrize(("sampling", "shift"), [("logit_normal", 3.0), ("uniform", 3.0), ("uniform", 1.0)])
def test_timesteps_are_distributed_as_in_diffusers_scripts(sampling: Any, shift: float) -> None:
    """Theirs: a place in the scheduler's 1000 shifted timesteps; ours: the same curve without steps."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    torch.manual_seed(0)
    scheme = "logit_normal" if sampling == "logit_normal" else "none"
    density = compute_density_for_timestep_sampling(scheme, 200_000, logit_mean=0.0, logit_std=1.0)
    theirs = scheduler.timesteps[(density * 1000).long()]
    ours = Config().build().timesteps(task(family(shift=shift, sampling=sampling)))
    torch.testing.assert_close(quantiles(ours), quantiles(theirs), rtol=0, atol=6.0)
    assert 0 < ours.min() <= ours.max() <= 1000


def test_a_shift_that_depends_on_the_size_is_that_of_drawing() -> None:
    """exp(mu) at 16 tokens, as FlowMatchEuler's time_shift has it."""
    config = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    of = family(mu=flow.linear_mu(config), patch=1)
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    mu = flow.linear_mu(config)(16, 28)
    even = (torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT
    ours = Config().build().timesteps(task(of)).double() / 1000
    torch.testing.assert_close(ours, scheduler.time_shift(mu, 1.0, even), rtol=0, atol=1e-5)
    unshifted = Config(timestep_shift=1).build().timesteps(task(of)).double() / 1000
    torch.testing.assert_close(unshifted, even, rtol=0, atol=1e-5)


def test_the_input_and_the_target_are_diffusers() -> None:
    """noise.lerp: (1 - sigma) x0 + sigma noise; target noise - x0."""
    made = task(family(), 8)
    objective = Config(timestep_sampling="uniform").build()
    noised = objective.noised(made, objective.timesteps(made))
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.sigmas, scheduler.timesteps = noised.timesteps / 1000, noised.timesteps
    theirs = scheduler.scale_noise(made.latents, noised.timesteps, made.noise)
    torch.testing.assert_close(noised.inputs, theirs)
    assert torch.equal(noised.target, made.noise - made.latents)
    expected = (made.noise - made.latents).square().mean((1, 2, 3))
    torch.testing.assert_close(objective.losses(made), expected)


@pytest.mark.parametrize("weighting", ["none", "sigma_sqrt", "cosmap"])
def test_weights_are_diffusers(weighting: Any) -> None:
    sigma = torch.linspace(0.01, 1, 50)
    theirs = compute_loss_weighting_for_sd3(weighting, sigma)
    torch.testing.assert_close(flow.weights(sigma, weighting), theirs)
    made = task(family(), 8)
    plain, weighted = (Config(flow_weighting=each).build() for each in ("none", weighting))
    ratio = weighted.losses(made) / plain.losses(made)
    torch.testing.assert_close(ratio, flow.weights(plain.timesteps(made) / 1000, weighting), rtol=1e-4, atol=1e-5)


def test_the_equivalent_schedule_has_the_flows_signal_to_noise_ratios() -> None:
    a = flow.schedule()
    sigma = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    torch.testing.assert_close(a / (1 - a), ((1 - sigma) / sigma) ** 2)


def test_only_a_part_of_the_noise_is_trained_on_request() -> None:
    times = Config(min_timestep=200, max_timestep=600).build().timesteps(task(family(shift=3.0)))
    assert 200 <= times.min() < 201
    assert 599 < times.max() <= 600


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"snr_gamma": 5}, "snr_gamma: this base .made up. is a flow model"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr: this base"),
        ({"prediction_type": "epsilon", "force_prediction_type": True}, "flow model .made up., which has no other"),
        ({"logit_std": 0.5}, "timesteps are drawn uniform"),
    ],
)
def test_what_means_nothing_to_a_flow_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**settings).build().prepare(family())


@pytest.mark.parametrize("settings", [{"timestep_shift": 2.0}, {"flow_weighting": "cosmap"}])
def test_what_means_something_to_flows_only_is_refused_elsewhere(settings: dict[str, Any]) -> None:
    of = family()
    of.flow, of.prediction = None, "epsilon"
    with pytest.raises(ConfigError, match="is no flow model"):
        Config(**settings).build().prepare(of)


@pytest.mark.parametrize("name", ["DDIM", "Euler a", "Heun", "DPM++ 2M Karras"])
def test_a_sampler_for_noise_schedules_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"flow model.*Use Euler, DPM\+\+ 2M, UniPC"):
        flow.build(samplers.resolve(name), family(), (8, 8), 4)


@pytest.mark.parametrize("name", list(flow.SCHEDULERS))
@pytest.mark.parametrize("of", [family(shift=3.0), family(mu=lambda *_: 1.0)], ids=["fixed", "by size"])
def test_every_sampler_finds_the_end_of_a_straight_path(name: str, of: Any) -> None:
    """Where the velocity is the same everywhere, any step size leads from the noise to the picture."""
    scheduler = flow.build(samplers.resolve(name), of, (4, 4), 5)
    scheduler.set_timesteps(5, **flow.timing(scheduler, of.flow, (4, 4), 5))
    clean, noise = torch.randn(2, 1, 2, 4, 4).unbind(0)
    sigma = scheduler.sigmas[0]
    latents = (1 - sigma) * clean + sigma * noise
    for timestep in scheduler.timesteps:
        latents = scheduler.step(noise - clean, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, clean, rtol=1e-4, atol=1e-4)
