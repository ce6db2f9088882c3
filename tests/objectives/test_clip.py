"""The CLIP objective against a computation written with transformers, through both ways, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from pydantic import ValidationError
from test_encoders import make_tiny_clip
from transformers import AutoTokenizer, CLIPModel

from brushwork import config as configs
from brushwork import families
from brushwork.critic import CAPTION
from brushwork.errors import ConfigError, ModelError
from brushwork.objectives.clip import ClipGuided, Config
from brushwork.values import Task

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.values import Family, Method

CAPTIONS = ("a cat", "a dog", "a fish")
DIRECTIONAL: dict[str, Any] = {"loss": "directional", "source": CAPTION, "target": "ink of {caption}"}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("judge"))


def ready(
    base: Path, judge: Path, method: str | dict[str, Any] = "lora", /, **settings: Any
) -> tuple[ClipGuided, Task]:
    """Return the objective, attached, and a task of three samples; a LoRA's update is no longer zero."""
    config = configs.load(
        {
            "base": str(base),
            "method": method,
            "data": "engravings",
            "objective": {"type": "clip", "clip": str(judge)} | settings,
        }
    )
    family: Family = families.load(str(base))
    tuned: Method = config.method.build()
    objective: ClipGuided = config.objective.build()
    objective.prepare(family)
    groups = tuned.attach(family, 0)
    generator = torch.Generator().manual_seed(3)
    for group in groups:
        for parameter in group.parameters.values():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    objective.attach(config, family, tuned)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    task = Task(
        family=family, method=tuned, conditioning=family.encode_text(CAPTIONS), captions=CAPTIONS, latents=latents,
        noise=noise, uniform=torch.tensor([0.1, 0.45, 0.8]), seeds=(1, 2, 3),
    )  # fmt: skip
    return objective, task


def scheduler(family: Family) -> Any:
    return DDIMScheduler.from_config(family.scheduler_config, set_alpha_to_one=True, timestep_spacing="trailing")


def features(folder: Path, pictures: torch.Tensor, *texts: list[str]) -> list[torch.Tensor]:
    """Return unit vectors of decoded pictures (24 of 32 px remain to be resized) and texts, by transformers alone."""
    model = CLIPModel.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shown = (pictures.clamp(-1, 1) + 1) / 2
    shown = torch.nn.functional.interpolate(shown, size=(32, 24), mode="bicubic", antialias=True).clamp(0, 1)
    shown = torch.nn.functional.interpolate(shown, size=(24, 24), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    shown = (shown - torch.from_numpy(mean).float().view(1, 3, 1, 1)) / torch.from_numpy(std).float().view(1, 3, 1, 1)
    found = [model.get_image_features(pixel_values=shown).pooler_output]
    for each in texts:
        tokens = tokenizer(each, padding="max_length", max_length=20, return_tensors="pt")
        found.append(model.get_text_features(**tokens).pooler_output)
    return [torch.nn.functional.normalize(each, dim=-1) for each in found]


def predicted(task: Task, *, base: bool = False) -> torch.Tensor:
    """Return the clean latents that diffusers' scheduler reads out of the prediction at the task's timesteps."""
    theirs, times = scheduler(task.family), (task.uniform * 1000).long()
    theirs.set_timesteps(1000)
    noisy = theirs.add_noise(task.latents, task.noise, times)
    if base:
        with task.method.disabled():
            said = task.predict(noisy, times)
    else:
        said = task.predict(noisy, times)
    rows = [theirs.step(said[row : row + 1], int(times[row]), noisy[row : row + 1]) for row in range(3)]
    return torch.cat([row.pred_original_sample for row in rows])


@pytest.mark.parametrize("fixture", ["tiny_sd", "tiny_sd_v"])
def test_the_global_loss_through_x0_is_the_one_written_by_hand(
    fixture: str, judge: Path, request: pytest.FixtureRequest
) -> None:
    objective, task = ready(request.getfixturevalue(fixture), judge, target="ink of {caption}", denoising_weight=0)
    vae: Any = task.family.vae
    pictures = vae.decode(predicted(task) / vae.config.scaling_factor).sample
    images, texts = features(judge, pictures, [f"ink of {caption}" for caption in CAPTIONS])
    expected = 1 - torch.nn.functional.cosine_similarity(images, texts)
    torch.testing.assert_close(objective.losses(task), expected, rtol=1e-3, atol=1e-4)


def test_the_directional_loss_compares_with_what_the_base_makes_of_the_same_noise(tiny_sd: Path, judge: Path) -> None:
    objective, task = ready(tiny_sd, judge, denoising_weight=0, weight=2, l1_weight=0.5, **DIRECTIONAL)
    tuned, base = (task.family.decode_latents(predicted(task, base=each)) for each in (False, True))
    images, targets, sources = features(judge, tuned, [f"ink of {caption}" for caption in CAPTIONS], list(CAPTIONS))
    (references,) = features(judge, base)
    directional = 1 - torch.nn.functional.cosine_similarity(images - references, targets - sources)
    l1 = (tuned.clamp(-1, 1) - base.clamp(-1, 1)).abs().mean((1, 2, 3))
    torch.testing.assert_close(objective.losses(task), 2 * directional + 0.5 * l1, rtol=2e-3, atol=2e-3)


def test_the_reference_can_be_the_training_picture(tiny_sd: Path, judge: Path) -> None:
    objective, task = ready(tiny_sd, judge, denoising_weight=0, reference="picture", **DIRECTIONAL)
    tuned, picture = (task.family.decode_latents(each) for each in (predicted(task), task.latents))
    images, targets, sources = features(judge, tuned, [f"ink of {caption}" for caption in CAPTIONS], list(CAPTIONS))
    (references,) = features(judge, picture)
    expected = 1 - torch.nn.functional.cosine_similarity(images - references, targets - sources)
    torch.testing.assert_close(objective.losses(task), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_through_sampling_it_judges_what_diffusers_ddim_draws(tiny_sd: Path, judge: Path, checkpointing: bool) -> None:
    objective, task = ready(
        tiny_sd, judge, target="ink of {caption}", denoising_weight=0, through="sampling", start_timestep=500,
        num_steps=5, gradient_checkpointing=checkpointing,
    )  # fmt: skip
    theirs = scheduler(task.family)
    theirs.set_timesteps(10)
    latents = theirs.add_noise(task.latents, task.noise, torch.full((3,), 499))
    with torch.no_grad():
        for time in theirs.timesteps[5:]:
            latents = theirs.step(task.predict(latents, time.expand(3)), time, latents).prev_sample
        images, texts = features(judge, task.family.decode_latents(latents), [f"ink of {each}" for each in CAPTIONS])
    losses = objective.losses(task)
    torch.testing.assert_close(losses, 1 - torch.nn.functional.cosine_similarity(images, texts), rtol=1e-3, atol=1e-4)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    trained = [each for each in task.family.denoiser.parameters() if each.requires_grad]
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in trained)


def test_checkpointing_changes_no_gradient(tiny_sd: Path, judge: Path) -> None:
    gradients = []
    for checkpointing in (True, False):
        objective, task = ready(
            tiny_sd, judge, through="sampling", num_steps=3, gradient_steps=2, gradient_checkpointing=checkpointing
        )
        objective.losses(task).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in task.family.denoiser.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("through", ["x0", "sampling"])
def test_the_gradient_reaches_what_is_trained_and_nothing_else(tiny_sd: Path, judge: Path, through: str) -> None:
    objective, task = ready(tiny_sd, judge, through=through, denoising_weight=0, **DIRECTIONAL)
    objective.losses(task).sum().backward()  # type: ignore[no-untyped-call]
    parts = (task.family.denoiser, task.family.vae, *task.family.text_encoders.values(), objective.critic.clip.model)
    reached = [each for part in parts for each in part.parameters() if each.grad is not None]
    trained = [each for each in task.family.denoiser.parameters() if each.requires_grad]
    assert {id(each) for each in reached} == {id(each) for each in trained}
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in trained)


def test_an_inverted_start_leads_the_base_back_to_the_picture(tiny_sd: Path, judge: Path) -> None:
    """The L1 to the picture falls with the steps of inversion and sampling, far below that from a noised start."""
    alone = {"through": "sampling", "reference": "picture", "start_timestep": 300, "denoising_weight": 0}
    distances = []
    for steps, start in ((4, {}), (4, {"start": "inverted"}), (100, {"start": "inverted", "inversion_steps": 100})):
        objective, task = ready(tiny_sd, judge, **alone, **start, num_steps=steps, l1_weight=1, weight=1e-6)
        for parameter in task.family.denoiser.parameters():
            parameter.data.mul_(not parameter.requires_grad)  # the update is nothing, so what is tuned is the base
        with torch.no_grad():
            distances.append(float(objective.losses(task).mean()))
    noised, few, many = distances
    assert few < noised / 3
    assert many < few / 2


@pytest.mark.parametrize("through", ["x0", "sampling"])
def test_beside_the_denoising_loss_it_is_the_sum_of_both(tiny_sd: Path, judge: Path, through: str) -> None:
    """At the timesteps of the denoising loss, whose pass it shares through x0."""
    both, task = ready(tiny_sd, judge, through=through, weight=0.5, denoising_weight=2, denoising={"snr_gamma": 5})
    alone = replace(task)
    clip = Config(clip=str(judge), through=through, weight=0.5, denoising_weight=0).build()  # type: ignore[arg-type]
    clip._critic = both.critic
    with torch.no_grad():
        expected = clip.losses(alone) + 2 * both.denoising.losses(task)
        torch.testing.assert_close(both.losses(task), expected, rtol=1e-4, atol=1e-5)


def test_outside_its_timesteps_there_is_only_the_denoising_loss(tiny_sd: Path, judge: Path) -> None:
    objective, task = ready(tiny_sd, judge, min_timestep=300, max_timestep=700)
    with torch.no_grad():
        difference = objective.losses(task) - objective.denoising.losses(task)
    assert [abs(float(each)) > 1e-3 for each in difference] == [False, True, False]


def test_alone_it_draws_its_timesteps_from_its_own_range(
    tiny_sd: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, task = ready(tiny_sd, judge, min_timestep=300, max_timestep=700, denoising_weight=0)
    seen: list[int] = []
    predict = task.family.predict
    monkeypatch.setattr(
        task.family,
        "predict",
        lambda latents, times, told: seen.extend(times.tolist()) or predict(latents, times, told),
    )
    objective.losses(task)
    assert seen == [340, 480, 620]


@pytest.mark.parametrize("through", ["x0", "sampling"])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_preserved_pictures_and_dropped_captions_get_the_denoising_loss_alone(
    tiny_sd: Path, judge: Path, through: str, weight: float
) -> None:
    objective, task = ready(tiny_sd, judge, through=through, denoising_weight=weight)
    mixed = replace(task, captions=("a cat", "", "a fish"), preserved=(False, False, True))
    with torch.no_grad():
        losses, plain = objective.losses(mixed), objective.denoising.losses(task)
    assert float(losses[0]) > weight * float(plain[0]) + 1e-3
    torch.testing.assert_close(losses[1:], torch.tensor([weight, 1.0]) * plain[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("through", ["x0", "sampling"])
def test_with_no_picture_to_judge_it_can_still_be_differentiated(tiny_sd: Path, judge: Path, through: str) -> None:
    objective, task = ready(tiny_sd, judge, through=through, denoising_weight=0)
    losses = objective.losses(replace(task, captions=("", "", "")))
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert losses.tolist() == [0, 0, 0]


def test_full_fine_tuning_compares_with_the_base_that_it_keeps(tiny_sd: Path, judge: Path) -> None:
    kept: dict[str, Any] = {"type": "full", "keep_base": True}
    objective, task = ready(tiny_sd, judge, kept, denoising_weight=0, **DIRECTIONAL)
    losses = objective.losses(task)
    tuned, base = (task.family.decode_latents(predicted(task, base=each)) for each in (False, True))
    images, targets, sources = features(judge, tuned, [f"ink of {caption}" for caption in CAPTIONS], list(CAPTIONS))
    (references,) = features(judge, base)
    expected = 1 - torch.nn.functional.cosine_similarity(images - references, targets - sources)
    torch.testing.assert_close(losses, expected, rtol=2e-3, atol=2e-3)


def test_under_autocast_the_base_is_the_base(tiny_sd: Path, judge: Path) -> None:
    """Autocast keeps cast weights by parameter; those of the tuned model must not answer for the base's."""
    _, task = ready(tiny_sd, judge, {"type": "full", "keep_base": True})
    times = torch.tensor([100, 400, 700])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        task.predict(task.latents, times)
        with task.base() as predict:
            within = predict(task.latents, times)
        after = task.predict(task.latents, times)
        after.float().sum().backward()  # type: ignore[no-untyped-call]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        untouched = families.load(str(tiny_sd)).predict(task.latents, times, task.conditioning)
    torch.testing.assert_close(within, untouched)
    assert not torch.equal(within, after)
    assert all(each.grad is not None for each in task.family.denoiser.parameters())


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("full", DIRECTIONAL, "keep_base=true"),
        ({"type": "lora", "train_text_encoder": True}, DIRECTIONAL, "it trains text_encoder"),
        ({"type": "lora", "train_text_encoder": True}, {"through": "sampling", "start": "inverted"}, "start=noised"),
        ("textual-inversion", {}, "CLIP does not know it"),
        ("textual-inversion", {"target": "ink", "l1_weight": 1}, "it trains embeddings"),
        ("pivotal", {}, "CLIP does not know it"),
        ("lora", {"target": "a very long text about an old ink engraving"}, "is longer than"),
    ],
)
def test_what_a_method_cannot_honour_is_refused(
    tiny_sd: Path, judge: Path, method: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ready(tiny_sd, judge, method, **settings)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("full", {}),
        ({"type": "lora", "train_text_encoder": True}, {"l1_weight": 1, "reference": "picture"}),
        ("textual-inversion", {"target": "ink"}),
        ("textual-inversion", {"loss": "directional", "source": "photo", "target": "ink", "reference": "picture"}),
    ],
)
def test_what_a_method_can_honour_reaches_its_parameters(
    tiny_sd: Path, judge: Path, method: Any, settings: dict[str, Any]
) -> None:
    objective, task = ready(tiny_sd, judge, method, denoising_weight=0, **settings)
    objective.losses(task).sum().backward()  # type: ignore[no-untyped-call]
    parts = (task.family.denoiser, *task.family.text_encoders.values())
    trained = [each for part in parts for each in part.parameters() if each.requires_grad]
    assert trained
    assert all(each.grad is not None for each in trained)


def test_a_clip_that_is_not_there_is_named_by_its_own_setting(tiny_sd: Path) -> None:
    with pytest.raises(ModelError, match=r"objective\.clip: '\./nowhere'"):
        ready(tiny_sd, "./nowhere")  # type: ignore[arg-type]


def test_timesteps_beyond_the_schedule_are_refused(tiny_sd: Path, judge: Path) -> None:
    with pytest.raises(ConfigError, match="start_timestep goes beyond the base's schedule, which has 1000"):
        ready(tiny_sd, judge, through="sampling", start_timestep=1001)
    with pytest.raises(ConfigError, match="max_timestep goes beyond"):
        ready(tiny_sd, judge, max_timestep=1001)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "directional"}, "set both"),
        ({"loss": "directional", "source": CAPTION}, "set both"),
        ({"source": "a photo"}, "loss is global, so source cannot apply"),
        ({"reference": "picture"}, "loss is global and l1_weight is 0, so reference cannot apply"),
        ({"num_steps": 4}, "through is x0, so num_steps cannot apply"),
        ({"through": "sampling", "min_timestep": 4}, "through is sampling, so min_timestep cannot apply"),
        ({"through": "sampling", "inversion_steps": 4}, "start is noised, so inversion_steps cannot apply"),
        ({"min_timestep": 500, "max_timestep": 500}, "min_timestep is 500 but max_timestep is only 500"),
        ({"max_timestep": 300, "denoising": {"min_timestep": 300}}, "leave nothing of the timesteps"),
        ({"min_timestep": 300, "denoising": {"max_timestep": 300}}, "leave nothing of the timesteps"),
        ({"through": "sampling", "gradient_steps": 7}, "gradient_steps is 7 but num_steps is only 6"),
        ({"through": "sampling", "start_timestep": 5}, "start_timestep is 5, too few"),
        ({"weight": 0}, "greater than 0"),
        ({"target": ""}, "at least 1 character"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**settings)
