"""CLIP-guided training in the loop: what moves, resuming, splitting a step, and what the run's record says."""

from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from test_encoders import make_tiny_clip

from brushwork import api
from brushwork import config as configs
from brushwork.errors import ConfigError
from brushwork.runs import RunFolder
from brushwork.train import prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config
    from brushwork.values import Task

DIRECTIONAL = {"loss": "directional", "source": "{caption}", "target": "ink of {caption}"}
SAMPLING = {"through": "sampling", "num_steps": 2, "denoising_weight": 0, "l1_weight": 0.1}
FULL = {"type": "full", "keep_base": True}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("judge"))


@pytest.fixture
def make_config(tiny_sd: Path, tiny_data: Path, judge: Path) -> Any:
    def make(method: Any = None, /, **changes: Any) -> Config:
        tree = {
            "base": str(tiny_sd),
            "method": method or {"type": "lora", "rank": 2},
            "data": {"path": str(tiny_data), "resolution": 32, "validation_split": 0.2},
            "objective": {"type": "clip", "clip": str(judge)},
            "optimizer": {"learning_rate": 1e-2},
            "train": {"max_train_steps": 3, "train_batch_size": 2, "device": "cpu"},
            "validation": {"prompts": ["a cat"], "samples_during_training": 0, "loss_images": 1, "loss_timesteps": 1},
        }
        return configs.load(configs.merge(tree, changes), method="clip-guided")

    return make


@pytest.mark.parametrize(("method", "objective"), [(None, DIRECTIONAL), (FULL, DIRECTIONAL | SAMPLING)])
def test_exactly_the_declared_weights_move(make_config: Any, method: Any, objective: dict[str, Any]) -> None:
    trainer = prepare(make_config(method, objective=objective))
    parts = {"denoiser": trainer.family.denoiser, "vae": trainer.family.vae, **trainer.family.text_encoders}
    parts["clip"] = trainer.objective.critic.clip.model  # type: ignore[attr-defined]
    tensors = {f"{part}.{name}": each for part, module in parts.items() for name, each in module.state_dict().items()}
    before = {name: each.clone() for name, each in tensors.items()}
    list(trainer.steps())
    assert {name for name, each in tensors.items() if not torch.equal(each, before[name])} == set(trainer.named)


@pytest.mark.parametrize(
    ("method", "objective", "train"),
    [
        (None, DIRECTIONAL, {"use_ema": True, "gradient_accumulation_steps": 2}),
        (FULL, DIRECTIONAL | SAMPLING | {"start": "inverted", "inversion_steps": 2}, {}),
    ],
    ids=["lora-x0", "full-sampling"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    make_config: Any, tmp_path: Path, method: Any, objective: dict[str, Any], train: dict[str, Any]
) -> None:
    config = make_config(method, objective=objective, train=train)
    whole, halves = RunFolder.create(config, tmp_path / "whole"), RunFolder.create(config, tmp_path / "halves")
    expected = [(step.losses, step.grad_norm, step.validation_loss) for step in steps(config, whole)]
    first = steps(config, halves)
    seen = [(step.losses, step.grad_norm, step.validation_loss) for step in itertools.islice(first, 1)]
    first.close()  # type: ignore[attr-defined]
    seen += [(step.losses, step.grad_norm, step.validation_loss) for step in steps(config, halves)]
    assert seen == expected
    files = [path.relative_to(whole.weights) for path in whole.weights.rglob("*.safetensors")]
    assert files
    assert all((halves.weights / path).read_bytes() == (whole.weights / path).read_bytes() for path in files)


def test_the_step_is_the_same_however_it_is_split(make_config: Any) -> None:
    every = []
    for size, accumulation in ((4, 1), (2, 2)):
        split = {"train_batch_size": size, "gradient_accumulation_steps": accumulation, "max_train_steps": 2}
        every.append([step.losses for step in steps(make_config(objective=DIRECTIONAL, train=split))])
    torch.testing.assert_close(torch.tensor(every[0]), torch.tensor(every[1]), rtol=1e-3, atol=1e-3)


def test_pictures_to_preserve_are_known_to_the_objective(make_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(
        preserve={"num_images": 2, "prompts": ["a tree"]},
        validation={"num_inference_steps": 1},
        train={"train_batch_size": 5, "max_train_steps": 2},
    )
    trainer = prepare(config)
    tasks: list[Task] = []
    losses = trainer.objective.losses
    monkeypatch.setattr(trainer.objective, "losses", lambda task: tasks.append(task) or losses(task))
    list(trainer.steps())
    seen = [pair for task in tasks[:2] for pair in zip(task.captions, task.preserved, strict=True)]
    assert {kept for _, kept in seen} == {True, False}
    assert all(kept == (caption == "a tree") for caption, kept in seen)


def test_the_run_says_which_judge_was_optimised(make_config: Any) -> None:
    trainer = prepare(make_config(), encode=False)
    clip = trainer.objective.critic.clip  # type: ignore[attr-defined]
    told = {"name": clip.name, "revision": clip.revision, "preprocessing": clip.preprocessing}
    assert api._optimised_judge(trainer) == {"optimised_judge": told}
    assert api._optimised_judge(prepare(make_config(objective={"type": "denoising"}), encode=False)) == {}


def test_masks_are_refused_where_only_clip_looks(make_config: Any, tiny_data: Path) -> None:
    for path in list(tiny_data.glob("*.png")):
        shutil.copy(path, path.with_name(f"{path.stem}-masklabel.png"))
    with pytest.raises(ConfigError, match=r"data\.masks: the objective clip has no use for masks"):
        prepare(make_config(objective={"denoising_weight": 0}, data={"masks": True}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": {"denoising": {"snr_gamma": 5}}},
            r"objective\.denoising\.snr_gamma: .* there is no denoising loss",
        ),
        ({"objective": {"denoising": {"max_timestep": 500}}}, r"objective\.denoising\.max_timestep: "),
        ({"objective": {"denoising": {"noise_offset": 0.1}, "through": "sampling"}}, r"denoising\.noise_offset: "),
        ({"data": {"caption_dropout": 0.1}}, r"data\.caption_dropout: without its caption a picture has no target"),
    ],
)
def test_what_only_the_denoising_loss_reads_is_refused_without_it(
    make_config: Any, changes: dict[str, Any], message: str
) -> None:
    alone = configs.merge({"objective": {"denoising_weight": 0}}, changes)
    with pytest.raises(ConfigError, match=message):
        prepare(make_config(**alone), encode=False)
    if "objective" in changes:  # it is read for pictures that the base drew
        prepare(make_config(**alone, preserve={"prompts": ["a dog"], "num_images": 1}), encode=False)


def test_noise_is_read_where_the_prediction_at_the_training_timestep_is_judged(make_config: Any) -> None:
    losses = []
    for offset in (0.0, 0.5):
        objective = {"denoising_weight": 0, "denoising": {"noise_offset": offset}}
        losses.append(next(prepare(make_config(objective=objective)).steps()).losses)
    assert losses[0] != losses[1]


def test_the_preset_is_a_lora_with_clip_beside_the_denoising_loss() -> None:
    config = configs.load({"data": "engravings"}, method="clip-guided")
    assert (config.method.type, config.data.type, config.objective.type) == ("lora", "captioned", "clip")
    objective: Any = config.objective
    assert (objective.loss, objective.target) == ("global", "{caption}")
    assert (objective.weight, objective.denoising_weight) == (0.3, 1.0)
