"""Latent consistency distillation against a computation by hand, diffusers' schedulers and closed forms."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LCMScheduler

from brushwork import families, predictions
from brushwork.errors import ConfigError
from brushwork.methods.lora import Config as Lora
from brushwork.objectives import consistency
from brushwork.objectives.consistency import Config
from brushwork.seeds import derive
from brushwork.values import Task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KINDS = pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@KINDS
def test_predictions_are_converted_as_diffusers_converts_them(prediction: Any) -> None:
    scheduler = DDIMScheduler(**SCHEDULE, prediction_type=prediction, clip_sample=False)
    said, noisy = randn(2, 4, 8, 8)[:, None], randn(2, 4, 8, 8, seed=1)[:, None]
    for row, timestep in enumerate((999, 20)):
        theirs = scheduler_step(scheduler, said[row], timestep, noisy[row])
        a = scheduler.alphas_cumprod[[timestep]]
        clean, noise = predictions.split(said[row], noisy[row], a, prediction)
        torch.testing.assert_close(clean, theirs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(predictions.mix(clean, noise, a), noisy[row], rtol=1e-4, atol=1e-4)


def scheduler_step(scheduler: Any, said: torch.Tensor, timestep: int, noisy: torch.Tensor) -> torch.Tensor:
    scheduler.set_timesteps(50)
    found: torch.Tensor = scheduler.step(said, timestep, noisy).pred_original_sample
    return found


def test_noise_is_mixed_in_as_diffusers_does() -> None:
    scheduler = DDPMScheduler(**SCHEDULE)
    clean, noise, times = randn(3, 4, 8, 8), randn(3, 4, 8, 8, seed=1), torch.tensor([0, 500, 999])
    ours = predictions.mix(clean, noise, scheduler.alphas_cumprod[times])
    torch.testing.assert_close(ours, scheduler.add_noise(clean, noise, times))


def test_the_boundary_condition_is_that_of_the_sampler() -> None:
    skip, out = consistency.boundary(torch.tensor([0, 1, 19, 999]), 10.0)
    for row, timestep in enumerate((0, 1, 19, 999)):
        theirs = LCMScheduler().get_scalings_for_boundary_condition_discrete(timestep)
        assert (skip[row].item(), out[row].item()) == pytest.approx(theirs, rel=1e-6)
    assert (skip[0].item(), out[0].item()) == (1.0, 0.0)


def test_the_samplers_timesteps_are_among_the_trained_ones() -> None:
    uniform = torch.arange(1000) / 1000
    for width in (5, 10, 20):
        start, end = Config(skipped_steps=width).build()._interval(uniform, 1000)
        trained = set(start.tolist())
        assert trained == set(range(width - 1, 1000, width))
        assert torch.equal(end, (start - width).clamp(min=0))
        for steps in (1, 2, 4, 8):
            scheduler = LCMScheduler(**SCHEDULE)
            scheduler.set_timesteps(steps)
            assert set(scheduler.timesteps.tolist()) <= trained


class Perfect:
    """A base whose paths all end in one picture, whatever the guidance: it knows it, and says so at every point."""

    def __init__(self, prediction: str, picture: torch.Tensor) -> None:
        self.prediction, self.picture, self.wavers = prediction, picture, 0.0
        self.alphas_cumprod = DDPMScheduler(**SCHEDULE).alphas_cumprod.double()

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, _: Any) -> torch.Tensor:
        signal, sigma = predictions.coefficients(self.alphas_cumprod[timesteps])
        picture = self.picture * (1 + self.wavers * timesteps.view(-1, 1, 1, 1) % 7)
        noise = (noisy - signal * picture) / sigma
        return noise if self.prediction == "epsilon" else signal * noise - sigma * picture

    def encode_text(self, captions: list[str]) -> Any:
        return consistency.Conditioning({"states": torch.zeros(len(captions), 1, 1)})


@KINDS
@pytest.mark.parametrize("loss", ["huber", "l2"])
def test_a_consistent_model_has_no_loss(prediction: str, loss: str) -> None:
    """The base's path from any noisy point leads straight to its picture, and the student says so everywhere.

    But for the boundary condition, by which near timestep 0 the answer is the noisy point itself: scaled away here.
    """
    family: Any = Perfect(prediction, randn(1, 4, 8, 8, seed=3))
    task = make_task(family, SimpleNamespace(disabled=contextlib.nullcontext), 8)
    task = replace_uniform(task, torch.linspace(0.05, 0.999, 8))
    steep = Config(loss=loss, timestep_scaling=1e6).build()
    assert steep.losses(task).max() < 1e-5
    family.wavers = 0.1
    assert steep.losses(task).min() > 1e-4


def make_task(family: Any, method: Any, count: int, **more: Any) -> Task:
    texts = [f"a thing {number}" for number in range(count)]
    with torch.no_grad():
        conditioning = family.encode_text(texts)
    return Task(
        family=family,
        method=method,
        conditioning=conditioning,
        captions=texts,
        latents=randn(count, 4, 8, 8, seed=5),
        noise=randn(count, 4, 8, 8, seed=6),
        uniform=torch.rand(count, generator=torch.Generator().manual_seed(7)),
        seeds=list(range(count)),
        **more,
    )


def replace_uniform(task: Task, uniform: torch.Tensor) -> Task:
    return Task(**{**vars(task), "uniform": uniform})


def tuned(base: Path) -> tuple[Any, Any]:
    """Return a family with a LoRA that changes what it predicts."""
    family = families.load(str(base))
    method = Lora(rank=2).build()
    (group,) = method.attach(family, 0)
    generator = torch.Generator().manual_seed(1)
    for parameter in group.parameters.values():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return family, method


@KINDS
@pytest.mark.parametrize("loss", ["huber", "l2"])
def test_the_loss_is_the_one_computed_by_hand(prediction: str, loss: str, tiny_sd: Path, tiny_sd_v: Path) -> None:
    """One sample at a time, with diffusers' DDIM step for the base's and the LCM sampler's arithmetic for the jump."""
    base = tiny_sd if prediction == "epsilon" else tiny_sd_v
    family, method = tuned(base)
    plain = families.load(str(base))
    task = make_task(family, method, 4)
    task = replace_uniform(task, torch.tensor([0.0, 0.2, 0.61, 0.999]))
    config = Config(
        loss=loss, guidance_scale_min=2, guidance_scale_max=9, **({"huber_c": 0.01} if loss == "huber" else {})
    )
    losses = config.build().losses(task)

    ddim = DDIMScheduler(**SCHEDULE, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False)
    ddim.set_timesteps(50)
    lcm = LCMScheduler(**SCHEDULE, prediction_type=prediction)
    for row, (start, end) in enumerate([(19, 0), (219, 199), (619, 599), (999, 979)]):
        one = slice(row, row + 1)
        texts, nothing = plain.encode_text([task.captions[row]]), plain.encode_text([""])
        noisy = ddim.add_noise(task.latents[one], task.noise[one], torch.tensor([start]))
        times = torch.tensor([start])
        with torch.no_grad():
            within, without = (plain.predict(noisy, times, each) for each in (texts, nothing))
            chance = torch.rand((), generator=torch.Generator().manual_seed(derive(row, "guidance")))
            guided = without + (2 + 7 * chance) * (within - without)
            earlier = ddim.step(guided, start, noisy).prev_sample
            jumps = []
            for point, timestep in ((noisy, start), (earlier, end)):
                said = family.predict(point, torch.tensor([timestep]), texts)
                lcm.set_timesteps(50)
                lcm.set_begin_index(int((lcm.timesteps == timestep).nonzero()[0, 0]) if timestep else 49)
                jumps.append(lcm.step(said, timestep, point).denoised)
        error = (jumps[0] - jumps[1]).double()
        expected = error.square() if loss == "l2" else (error.square() + 0.01**2).sqrt() - 0.01
        assert losses[row].item() == pytest.approx(expected.mean().item(), rel=2e-4)


def test_the_gradient_reaches_the_student_only_and_not_through_the_target(tiny_sd: Path) -> None:
    family, method = tuned(tiny_sd)
    task = make_task(family, method, 2)
    Config().build().losses(task).sum().backward()
    for name, parameter in family.denoiser.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == ("lora_" in name), name
    jumps: list[torch.Tensor] = []
    objective = Config().build()
    jump = objective._jump

    def listening(*given: Any) -> torch.Tensor:
        jumps.append(jump(*given))
        return jumps[-1]

    objective._jump = listening  # type: ignore[method-assign]
    objective.losses(task)
    assert [each.requires_grad for each in jumps] == [False, True], "first the target, then the student"


def test_under_autocast_the_gradient_is_that_of_full_precision(tiny_sd: Path) -> None:
    """Weights that autocast cast without a gradient for the target must not be taken again for the student."""
    grads = []
    for mixed in (False, True):
        family, method = tuned(tiny_sd)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            Config(loss="l2").build().losses(make_task(family, method, 2)).sum().backward()
        grads.append(torch.cat([each.grad.flatten() for each in family.denoiser.parameters() if each.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.95


def test_the_target_may_be_the_average(tiny_sd: Path) -> None:
    family, method = tuned(tiny_sd)
    inside: list[bool] = []

    @contextlib.contextmanager
    def averaged() -> Iterator[None]:
        inside.append(True)
        yield

    Config(target="average").build().losses(make_task(family, method, 2, averaged=averaged))
    Config().build().losses(make_task(family, method, 2, averaged=averaged))
    assert inside == [True]


def test_guidance_lies_between_its_ends_and_belongs_to_the_sample() -> None:
    objective = Config(guidance_scale_min=2, guidance_scale_max=4).build()
    some, others = (SimpleNamespace(seeds=seeds) for seeds in (range(200), range(100, 200)))
    scales = objective._guidance(some)  # type: ignore[arg-type]
    assert torch.equal(scales[100:], objective._guidance(others))  # type: ignore[arg-type]
    assert 2 <= scales.min() < 2.1
    assert 3.9 < scales.max() < 4
    assert torch.equal(Config(guidance_scale_max=3).build()._guidance(some), torch.full((200,), 3.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_scale_min": 9}, "guidance_scale_min is 9 but guidance_scale_max is only 8"),
        ({"loss": "l2", "huber_c": 0.1}, "loss is l2, so huber_c cannot apply"),
        ({"num_inference_steps": 51}, "num_inference_steps is 51, but LCM has at most 50"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_a_base_that_it_does_not_fit_is_refused() -> None:
    family: Any = SimpleNamespace(prediction="flow", alphas_cumprod=torch.linspace(1, 0, 1000))
    with pytest.raises(ConfigError, match="wants a base of epsilon or v_prediction; this one predicts flow"):
        Config().build().prepare(family)
    family.prediction = "epsilon"
    with pytest.raises(ConfigError, match=r"skipped_steps is 40, .* 20 apart .* Take one of 1, 2, 4, 5, 10, 20"):
        Config(skipped_steps=40).build().prepare(family)
    Config().build().prepare(family)
