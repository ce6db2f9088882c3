"""DDIM with gradients against diffusers' schedulers and against what must hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from brushwork import ddim

SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PLAIN: dict[str, Any] = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}


def scheduler(prediction: str) -> Any:
    return DDIMScheduler(**SCHEDULE, **PLAIN, prediction_type=prediction)


def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    return torch.tanh(latents) + timesteps.view(-1, 1, 1, 1) / 1000


def latents(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("start", "steps", "whole"), [(1000, 10, 10), (500, 5, 10), (600, 3, 5)])
def test_sampling_is_the_end_of_diffusers_path(prediction: Any, start: int, steps: int, whole: int) -> None:
    theirs = scheduler(prediction)
    theirs.set_timesteps(whole)
    times = ddim.ladder(start, steps)
    assert times == theirs.timesteps.tolist()[-steps:]
    expected = latents()
    for time in times:
        expected = theirs.step(predict(expected, torch.full((3,), time)), time, expected).prev_sample
    ours = ddim.sample(predict, latents(), times, theirs.alphas_cumprod.double(), prediction, tracked=steps)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_inversion_is_the_paths_equation_upwards() -> None:
    """Written out: the noise seen at the lower level is mixed in anew at the higher one."""
    times, schedule = ddim.ladder(1000, 10), scheduler("epsilon").alphas_cumprod.double()
    expected, level, before = latents().double(), 1.0, 0
    for time in times[::-1]:
        noise = predict(expected.float(), torch.full((3,), before)).double()
        clean = (expected - (1 - level) ** 0.5 * noise) / level**0.5
        level, before = float(schedule[time]), time
        expected = level**0.5 * clean + (1 - level) ** 0.5 * noise
    ours = ddim.invert(predict, latents(), times, schedule, "epsilon")
    torch.testing.assert_close(ours, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_more_steps_lead_back_to_the_picture_more_exactly(prediction: Any) -> None:
    schedule = scheduler(prediction).alphas_cumprod.double()
    errors = []
    for steps in (5, 50):
        times = ddim.ladder(500, steps)
        noisy = ddim.invert(predict, latents(), times, schedule, prediction)
        errors.append((ddim.sample(predict, noisy, times, schedule, prediction, tracked=0) - latents()).abs().mean())
    assert errors[1] < errors[0] / 4
    assert errors[1] < 0.05


def test_where_the_model_always_sees_the_same_noise_inversion_is_exact() -> None:
    fixed, schedule = latents(1), scheduler("epsilon").alphas_cumprod.double()
    times = ddim.ladder(700, 4)
    noisy = ddim.invert(lambda *_: fixed, latents(), times, schedule, "epsilon")
    ours = ddim.sample(lambda *_: fixed, noisy, times, schedule, "epsilon", tracked=0)
    torch.testing.assert_close(ours, latents(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_goes_through_the_last_steps_only(checkpointing: bool) -> None:
    """Each step has a parameter of its own: those of the last two get a gradient, and the same with checkpointing."""
    times = ddim.ladder(500, 5)
    scales = {time: torch.tensor(1.0, requires_grad=True) for time in times}

    def scaled(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return torch.tanh(noisy) * scales[int(timesteps[0])]

    schedule = scheduler("epsilon").alphas_cumprod.double()
    clean = ddim.sample(scaled, latents(), times, schedule, "epsilon", tracked=2, checkpointing=checkpointing)
    clean.square().sum().backward()  # type: ignore[no-untyped-call]
    assert [time for time in times if scales[time].grad is not None] == times[-2:]
    slope, step = scales[times[-1]].grad, 1e-2
    assert slope is not None
    scales = {time: torch.tensor(1.0 + (step if time == times[-1] else 0)) for time in times}
    moved = ddim.sample(scaled, latents(), times, schedule, "epsilon", tracked=0).square().sum()
    assert float(slope) == pytest.approx(float(moved - clean.detach().square().sum()) / step, rel=2e-2)
