"""The loop: how steps are split and weighted, caches, seeds, and exact resume (what moves: ``test_matrix.py``)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from brushwork import config as configs
from brushwork.errors import ConfigError, Diverged, ModelError
from brushwork.runs import RunFolder
from brushwork.train import Trainer, prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

STEPS = 6


def make_config(base: Path, data: Path, method: str = "lora", /, **changes: Any) -> Config:
    tree = {
        "base": str(base),
        "method": {"type": method} | ({"rank": 2} if method == "lora" else {}),
        "data": {
            "type": "captioned",
            "path": str(data),
            "resolution": 32,
            "random_flip": True,
            "validation_split": 0.2,
        },
        "optimizer": {"learning_rate": 1e-2, "lr_scheduler": "cosine", "lr_warmup_steps": 2},
        "train": {"max_train_steps": STEPS, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }
    return configs.load(configs.merge(tree, changes))


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.named.items()}


def test_the_step_is_the_same_however_it_is_split(tiny_sd: Path, tiny_data: Path) -> None:
    """Batch 4 at once, 2 x 2 and 4 x 1: the same samples, noise, weights."""
    losses, tuned = [], []
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        split = {"train_batch_size": size, "gradient_accumulation_steps": accumulation}
        trainer = prepare(make_config(tiny_sd, tiny_data, train=split))
        losses.append([step.losses for step in trainer.steps()])
        tuned.append(weights(trainer))
    for other in (1, 2):
        assert torch.allclose(torch.tensor(losses[0]), torch.tensor(losses[other]), atol=1e-5)
        for name, tensor in tuned[0].items():
            torch.testing.assert_close(tensor, tuned[other][name], rtol=1e-3, atol=1e-4)


def test_caches_change_nothing(tiny_sd: Path, tiny_data: Path) -> None:
    runs = [
        [step.loss for step in steps(make_config(tiny_sd, tiny_data, train={"cache_latents": on, "cache_text": on}))]
        for on in (True, False)
    ]
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)


def test_loader_workers_change_nothing(tiny_sd: Path, tiny_data: Path) -> None:
    config = make_config(tiny_sd, tiny_data, data={"center_crop": False}, train={"max_train_steps": 2})
    alone = [step.losses for step in steps(config)]
    workers = make_config(
        tiny_sd, tiny_data, data={"center_crop": False}, train={"max_train_steps": 2, "dataloader_num_workers": 2}
    )
    assert [step.losses for step in steps(workers)] == alone


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tiny_sd: Path, tiny_data: Path) -> None:
    finals = []
    for seed in (0, 0, 1):
        trainer = prepare(make_config(tiny_sd, tiny_data, seed=seed))
        list(trainer.steps())
        finals.append(weights(trainer))
    assert all(torch.equal(tensor, finals[1][name]) for name, tensor in finals[0].items())
    assert not all(torch.equal(tensor, finals[2][name]) for name, tensor in finals[0].items())


@pytest.mark.parametrize(
    "changes", [{}, {"train": {"use_ema": True, "gradient_accumulation_steps": 2}}, {"method": {"dropout": 0.3}}]
)
@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, changes: dict[str, Any], stop_after: int
) -> None:
    config = make_config(tiny_sd, tiny_data, **changes)
    whole, halves = RunFolder.create(config, tmp_path / "whole"), RunFolder.create(config, tmp_path / "halves")
    expected = [(step.index, step.losses, step.lr, step.grad_norm) for step in steps(config, whole)]

    first = steps(config, halves)
    seen = [(step.index, step.losses, step.lr, step.grad_norm) for step in itertools.islice(first, stop_after)]
    first.close()  # type: ignore[attr-defined]
    seen += [(step.index, step.losses, step.lr, step.grad_norm) for step in steps(config, halves)]

    assert seen == expected
    artefact = "pytorch_lora_weights.safetensors"
    assert (halves.weights / artefact).read_bytes() == (whole.weights / artefact).read_bytes()


def test_a_run_goes_on_only_with_the_data_it_began_with(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = make_config(tiny_sd, tiny_data)
    run = RunFolder.create(config, tmp_path / "run")
    first = steps(config, run)
    next(first)
    first.close()  # type: ignore[attr-defined]
    (tiny_data / "0.txt").write_text("another caption", "utf-8")
    with pytest.raises(ModelError, match="the data changed since this run began"):
        next(steps(config, run))


def test_an_edited_caption_or_picture_is_encoded_anew_and_nothing_else(tiny_sd: Path, tiny_data: Path) -> None:
    config = make_config(tiny_sd, tiny_data, data={"random_flip": False})
    assert prepare(config).encoded == {"latents": 6, "texts": 6}
    assert prepare(config).encoded == {"latents": 0, "texts": 0}
    (tiny_data / "0.txt").write_text("another caption", "utf-8")
    assert prepare(config).encoded == {"latents": 0, "texts": 1}
    (tiny_data / "1.png").write_bytes((tiny_data / "2.png").read_bytes() + b"\0")
    assert prepare(config).encoded == {"latents": 1, "texts": 0}
    assert prepare(make_config(tiny_sd, tiny_data, data={"resolution": 24})).encoded["latents"] == 12


def test_validation_loss_is_the_same_every_time_and_moves_with_training(tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data))
    before = trainer.held_out()
    assert before is not None
    assert before == trainer.held_out()
    *_, last = trainer.steps()
    assert last.validation_loss is not None
    assert last.validation_loss != before.mean


def test_held_out_pictures_are_never_trained_on(tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data))
    seen = {trainer.examples.index(position) for position in range(50)}
    assert seen == set(trainer.data.train)
    assert not seen & set(trainer.data.held_out)
    assert len(trainer.data.held_out) == 1


def test_every_sample_is_seen_once_an_epoch(tiny_sd: Path, tiny_data: Path) -> None:
    examples = prepare(make_config(tiny_sd, tiny_data, data={"validation_split": 0})).examples
    epochs = [[examples.index(6 * epoch + place) for place in range(6)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_diverging_run_stops_with_the_cause(tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data))
    with torch.no_grad():
        next(iter(trainer.named.values())).fill_(math.nan)
    with pytest.raises(Diverged, match=r"Step 1: the loss of .*png.* is not a number[\s\S]*learning_rate"):
        list(trainer.steps())


def test_gradients_are_clipped_to_the_norm_that_is_asked_for(tiny_sd: Path, tiny_data: Path) -> None:
    """With plain gradient descent the size of a step is the learning rate times the clipped norm."""
    trainer = prepare(make_config(tiny_sd, tiny_data, optimizer={"max_grad_norm": 1e-3, "lr_warmup_steps": 0}))
    before = weights(trainer)
    trainer.optimizer = torch.optim.SGD([{"params": list(trainer.named.values()), "initial_lr": 1.0}], lr=1.0)
    step = next(trainer.steps())
    moved = torch.cat([(tensor - before[name]).flatten() for name, tensor in weights(trainer).items()]).norm()
    assert step.grad_norm > 1e-3
    assert float(moved) == pytest.approx(1e-3, rel=1e-2)


def test_the_averaged_weights_are_what_is_saved(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    config = make_config(tiny_sd, tiny_data, train={"use_ema": True})
    trainer = prepare(config)
    run = RunFolder.create(config, tmp_path / "run")
    list(trainer.steps(run))
    assert trainer.average is not None
    saved = load_file(run.weights / "pytorch_lora_weights.safetensors")
    average = torch.cat(sorted([tensor.flatten() for tensor in trainer.average.average], key=lambda each: each.sum()))
    written = torch.cat(sorted([tensor.flatten() for tensor in saved.values()], key=lambda each: each.sum()))
    assert torch.equal(average, written)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_precision_and_gradient_checkpointing_train(
    tiny_sd_v: Path, tiny_data: Path, precision: str, checkpointing: bool
) -> None:
    changes = {"mixed_precision": precision, "gradient_checkpointing": checkpointing}
    trainer = prepare(make_config(tiny_sd_v, tiny_data, train=changes))
    assert all(parameter.dtype == torch.float32 for parameter in trainer.named.values())
    assert all(math.isfinite(step.loss) for step in trainer.steps())


def test_gradient_checkpointing_changes_no_loss(tiny_sd: Path, tiny_data: Path) -> None:
    losses = [
        [step.loss for step in steps(make_config(tiny_sd, tiny_data, train={"gradient_checkpointing": on}))]
        for on in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_resolution_that_does_not_fit_names_both_neighbours(tiny_sd: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match=r"resolution is 30, but .* needs a multiple of 4: 28 or 32"):
        prepare(make_config(tiny_sd, tiny_data, data={"resolution": 30}))


def test_the_resolution_is_the_bases_own_when_none_is_given(tiny_sd: Path, tiny_data: Path) -> None:
    trainer = prepare(make_config(tiny_sd, tiny_data, data={"resolution": None}))
    assert trainer.config.data.resolution == 32  # type: ignore[attr-defined]


def test_a_random_crop_cannot_be_cached(tiny_sd: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="a random crop is another picture each time"):
        prepare(make_config(tiny_sd, tiny_data, data={"center_crop": False}, train={"cache_latents": True}))


def test_training_lowers_the_loss(tiny_sd: Path, tiny_data: Path) -> None:
    changes: dict[str, Any] = {
        "train": {"max_train_steps": 40, "train_batch_size": 4},
        "optimizer": {"learning_rate": 2e-3},
    }
    trainer = prepare(make_config(tiny_sd, tiny_data, "full", **changes))
    before = trainer.held_out()
    *_, last = trainer.steps()
    assert before is not None
    assert last.validation_loss is not None
    assert last.validation_loss < 0.9 * before.mean
