"""Samplers: every listed one draws, and draws what diffusers' own scheduler would; the others are refused."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from brushwork import families, generate, samplers
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

EVERY = [(name, schedule) for name in samplers.names() for schedule in ("Automatic", *samplers.schedules(name))]


@pytest.fixture(scope="module")
def epsilon(tiny_sd: Path) -> Any:
    return families.load(str(tiny_sd))


@pytest.fixture(scope="module")
def velocity(tiny_sd_v: Path) -> Any:
    return families.load(str(tiny_sd_v))


def draw(family: Any, sampler: str, *, seeds: tuple[int, ...] = (0,), steps: int = 4) -> list[np.ndarray]:
    requests = [generate.Request("a cat", seed=seed, steps=steps, sampler=sampler) for seed in seeds]
    return [np.asarray(picture.image) for picture in generate.draw(family, requests)]


@pytest.mark.parametrize("name", samplers.names())
def test_every_listed_sampler_draws_from_a_base_that_predicts_the_noise(epsilon: Any, name: str) -> None:
    one, other = draw(epsilon, name, seeds=(0, 1))
    assert not np.array_equal(one, other)
    assert min(one.std(), other.std()) > 1, "not one flat colour"


@pytest.mark.parametrize(("name", "schedule"), EVERY)
def test_every_listed_sampler_draws_with_every_schedule_from_a_base_that_predicts_the_velocity(
    velocity: Any, name: str, schedule: str
) -> None:
    one, other = draw(velocity, f"{name} {schedule}", seeds=(0, 1), steps=3)
    assert not np.array_equal(one, other)
    assert min(one.std(), other.std()) > 1, "not one flat colour"


@pytest.mark.parametrize("name", samplers.names())
def test_one_step_gives_a_finite_picture_or_a_clear_refusal(velocity: Any, name: str) -> None:
    try:
        (picture,) = draw(velocity, name, steps=1)
    except ConfigError as error:
        assert "1 steps" in str(error)  # noqa: PT017  (either outcome is right)
    else:
        assert picture.shape == (32, 32, 3)


def test_more_steps_than_the_sampler_has_are_refused(velocity: Any) -> None:
    with pytest.raises(ConfigError, match="LCM cannot take 51 steps"):
        draw(velocity, "LCM", steps=51)
    with pytest.raises(ConfigError, match="1001 is more than the 1000"):
        draw(velocity, "Euler", steps=1001)


@pytest.mark.parametrize("name", samplers.names())
def test_every_sampler_keeps_the_noise_schedule_that_the_base_was_trained_with(velocity: Any, name: str) -> None:
    built = samplers.build(samplers.resolve(name), velocity.scheduler_config)
    assert np.allclose(built.alphas_cumprod, velocity.alphas_cumprod, atol=1e-6)
    assert built.config.prediction_type == velocity.prediction


@pytest.mark.parametrize(("name", "schedule"), EVERY)
def test_every_setting_is_one_that_the_scheduler_knows(name: str, schedule: str) -> None:
    import diffusers

    sampler = samplers.resolve(name, schedule)
    known = inspect.signature(getattr(diffusers, sampler.scheduler).__init__).parameters
    assert set(sampler.changes) <= set(known)


@pytest.mark.parametrize(
    ("asked", "name", "schedule"),
    [
        ("Euler a", "Euler a", "Automatic"),
        ("euler_a", "Euler a", "Automatic"),
        ("k_euler_a", "Euler a", "Automatic"),
        ("euler_ancestral", "Euler a", "Automatic"),
        ("DPM++ 2M", "DPM++ 2M", "Automatic"),
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("dpm++ 2m sde karras", "DPM++ 2M SDE", "Karras"),
        ("k_dpmpp_2m_ka", "DPM++ 2M", "Karras"),
        ("dpmpp_2m", "DPM++ 2M", "Automatic"),
        ("DPM++ 2M SDE Heun Exponential", "DPM++ 2M SDE Heun", "Exponential"),
        ("DPM2 a Karras", "DPM2 a", "Karras"),
        ("DPM++ 2M SGM Uniform", "DPM++ 2M", "SGM Uniform"),
        ("ddim", "DDIM", "Automatic"),
        ("uni_pc", "UniPC", "Automatic"),
    ],
)
def test_names_aliases_and_old_names_with_the_schedule_are_found(asked: str, name: str, schedule: str) -> None:
    found = samplers.resolve(asked)
    assert (found.name, found.schedule) == (name, schedule)


def test_every_alias_finds_its_sampler() -> None:
    for name in samplers.names():
        assert {samplers.resolve(alias).name for alias in samplers.aliases(name)} <= {name}


def test_automatic_is_the_schedule_that_a1111_takes() -> None:
    assert samplers.resolve("DPM++ 2M").changes == samplers.resolve("DPM++ 2M Karras").changes
    assert samplers.resolve("DPM++ 2M SDE").changes == samplers.resolve("DPM++ 2M SDE", "exponential").changes
    assert samplers.resolve("Euler").changes == samplers.resolve("Euler Uniform").changes


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("Eular", "Did you mean Euler?"),
        ("DPM+ 2M", "Did you mean DPM"),
        ("DPM++ SDE Karras", "torchsde"),
        ("DPM++ 2S a", "diffusers has no such scheduler"),
        ("DPM fast", "diffusers has no such scheduler"),
        ("DPM adaptive", "diffusers has no such scheduler"),
        ("Restart", "diffusers has no such scheduler"),
        ("Euler a Karras", "Euler a has no schedule 'Karras'. It takes Automatic, Uniform, SGM Uniform"),
        ("", "Known: "),
    ],
)
def test_what_diffusers_does_not_have_is_refused_with_the_reason(asked: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        samplers.resolve(asked)
    assert message in str(caught.value)


def test_without_scipy_what_needs_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "_has_scipy", lambda: False)
    assert "LMS" not in samplers.names()
    assert "Beta" not in samplers.schedules("Euler")
    with pytest.raises(ConfigError, match="LMS needs scipy"):
        samplers.resolve("LMS")
    with pytest.raises(ConfigError, match="Beta needs scipy"):
        samplers.resolve("Euler Beta")


def test_a_zero_snr_base_is_sampled_from_its_last_timestep_or_refused(velocity: Any) -> None:
    config = velocity.scheduler_config | {"rescale_betas_zero_snr": True}
    ddim = samplers.build(samplers.resolve("DDIM"), config)
    ddim.set_timesteps(5)
    assert int(ddim.timesteps[0]) == 999
    assert float(ddim.alphas_cumprod[-1]) < 1e-6
    with pytest.raises(ConfigError, match="Heun cannot start from pure noise"):
        samplers.build(samplers.resolve("Heun"), config)


def test_settings_of_the_scheduler_that_the_base_was_shipped_with_do_not_leak() -> None:
    shipped = {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "solver_order": 3,
        "clip_sample": True,
        "thresholding": True,
        "skip_prk_steps": True,
        "timestep_spacing": "leading",
        "final_sigmas_type": "sigma_min",
    }
    built = samplers.build(samplers.resolve("DPM++ 2M"), shipped).config
    assert (built.solver_order, built.thresholding, built.final_sigmas_type) == (2, False, "zero")
    assert (built.timestep_spacing, built.beta_schedule) == ("linspace", "scaled_linear")


def test_a_flow_base_is_refused() -> None:
    with pytest.raises(ConfigError, match="flow_prediction"):
        samplers.build(samplers.resolve("Euler"), {"prediction_type": "flow_prediction"})


def test_a_schedule_of_betas_that_the_scheduler_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="DPM2 does not work with this base's noise schedule"):
        samplers.build(samplers.resolve("DPM2"), {"beta_schedule": "sigmoid"})
