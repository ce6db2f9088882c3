"""The best state by held-out loss: chosen only against more than noise, saved exactly, resumed exactly."""

from __future__ import annotations

import math
import shutil
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import make_tiny_sd

from brushwork import api, card, exhibits
from brushwork import config as configs
from brushwork.best import Best, HeldOut, by_picture, is_worse
from brushwork.errors import ModelError
from brushwork.runs import RunFolder
from brushwork.train import prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

EVERY, STEPS = 8, 40
LORA = "pytorch_lora_weights.safetensors"


def test_losses_of_one_picture_are_one_number_and_the_error_is_over_pictures() -> None:
    held_out = by_picture([1.0, 3.0, 5.0, 5.0, 8.0], ["a", "a", "b", "b", "a"])
    assert held_out == HeldOut((4.0, 5.0))
    assert held_out.mean == 4.5
    assert held_out.standard_error == pytest.approx(statistics.stdev([4.0, 5.0]) / math.sqrt(2))
    assert HeldOut((1.0,)).standard_error is None
    assert by_picture([], []) is None


def test_worse_is_more_than_noise_by_the_exact_test() -> None:
    low = [1.0] * 6
    assert is_worse([1.1, 1.2, 1.1, 1.3, 1.1, 1.2], low)  # six of one sign: p = 2 / 64
    assert not is_worse([1.1, 1.2, 1.1, 1.3, 1.1], low[:5])  # five: p = 2 / 32
    assert not is_worse([1.1, 1.2, 1.1, 1.3, 1.1, 0.9], low)
    assert not is_worse([0.9] * 6, low)
    assert not is_worse(low, low)
    assert is_worse([math.nan, *low[1:]], low)


def seen(best: Best, *levels: float) -> Best:
    for place, level in enumerate(levels, start=1):
        best.see(place, HeldOut(tuple(level + 0.01 * picture for picture in range(6))))
    return best


def test_the_lowest_is_remembered_and_taken_only_when_the_last_is_worse() -> None:
    assert (seen(Best(keeps=True), 3, 1, 2).step, seen(Best(keeps=True), 3, 1, 2).taken) == (2, True)
    assert (seen(Best(keeps=True), 3, 2, 1).step, seen(Best(keeps=True), 3, 2, 1).taken) == (3, False)
    noisy = Best(keeps=True)
    noisy.see(1, HeldOut((1.0, 1.0, 1.0, 1.0, 1.0, 1.0)))
    noisy.see(2, HeldOut((1.5, 0.9, 1.4, 0.8, 1.2, 0.9)))
    assert (noisy.step, noisy.taken, noisy.waited) == (1, False, 0)
    record = noisy.record()
    assert record is not None
    assert record["told"].endswith("step 1 had a lower validation loss, but by no more than noise.")


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    best = seen(Best(keeps=True, patience=2), math.nan, 2, math.nan)
    assert (best.step, best.taken, best.waited) == (2, True, 1)
    assert seen(best, math.nan).over


def test_patience_counts_in_a_row_and_starts_anew() -> None:
    assert seen(Best(keeps=True, patience=2), 1, 2, 2).over
    assert not seen(Best(keeps=True, patience=2), 1, 2, 0.5, 2).over
    assert not seen(Best(keeps=True), 1, 2, 2, 2, 2).over


def test_nothing_is_watched_unless_it_is_to_be_kept() -> None:
    best = seen(Best(keeps=False), 2, 1)
    assert (best.step, best.record()) == (0, None)


def test_a_checkpoint_holds_all_of_it() -> None:
    best = seen(Best(keeps=True, patience=3), 1, 2, 2)
    again = Best(keeps=True, patience=3)
    again.load({name: list(value) if isinstance(value, tuple) else value for name, value in best.state().items()})
    assert again == best
    assert again.record() == best.record()


# An overfitting run: two pictures learnt by heart, eight held out.


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion whose latents are the picture's own: no noise of the posterior, of unit size."""
    from diffusers import AutoencoderKL

    folder = make_tiny_sd(tmp_path_factory.mktemp("base") / "sd", prediction_type="v_prediction")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -30
    vae.register_to_config(scaling_factor=7.0)
    vae.save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index in range(10):
        coarse = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a drawing of {index}", "utf-8")
    return folder


def overfitting(base: Path, data: Path, method: str = "full", **train: Any) -> Config:
    """The noisiest timesteps only: there a model must know pictures, and two of them are soon known by heart."""
    return configs.load(
        {
            "base": str(base),
            "method": {"type": method} | ({"rank": 2} if method == "lora" else {}),
            "data": {"path": str(data), "resolution": 32, "validation_split": 0.8},
            "objective": {"type": "denoising", "min_timestep": 700},
            "optimizer": {"learning_rate": 1e-2, "lr_warmup_steps": 0},
            "train": {
                "max_train_steps": STEPS, "train_batch_size": 4, "device": "cpu", "validation_steps": EVERY,
                "checkpointing_steps": 12, **train,
            },
            "validation": {"prompts": ["a cat"], "samples_during_training": 0, "loss_timesteps": 2},
        }
    )  # fmt: skip


def unet(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def truth(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, torch.Tensor]]:
    """The weights at every validation of a run that chooses nothing, and their losses."""
    folder = tmp_path_factory.mktemp("truth")
    trainer = prepare(overfitting(base, data, keep_best=False))
    states = {}
    for step in trainer.steps():
        if step.validation_loss is not None:
            trainer.write(folder / str(step.index))
            states[step.index] = unet(folder / str(step.index)) | {"loss": torch.tensor(step.validation_loss)}
    return states


@pytest.mark.slow
def test_an_overfitting_run_stops_and_its_weights_are_the_best_ones(
    base: Path, data: Path, truth: dict[int, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    """The patience ends it; a kill in the middle, after a best state that no checkpoint knows of, changes nothing."""
    config = overfitting(base, data, keep_best=True, early_stopping_patience=2, max_train_steps=400)
    run, killed = RunFolder.create(config, tmp_path / "run"), tmp_path / "killed"
    trainer = prepare(config)
    best = min(truth, key=lambda index: float(truth[index]["loss"]))
    assert best < STEPS
    done = 0
    for step in trainer.steps(run):
        done = step.index
        assert step.validation_error is None or step.validation_error > 0
        if step.index == best + 1:
            assert {int(each.name) for each in (run.path / "best").iterdir()} == {best - EVERY, best}
            shutil.copytree(run.path, killed)  # as a kill would leave it: the newest checkpoint is an older one
    losses = {index: float(state.pop("loss")) for index, state in truth.items()}
    assert (done in truth, trainer.best.step) == (True, best)
    assert done >= best + 2 * EVERY
    assert same(unet(run.weights), truth[best])
    assert same(unet(run.path / "last"), truth[done])
    assert not (run.path / "best").exists()
    record = trainer.best.record()
    assert record is not None
    assert (record["taken"], record["stopped_early"]) == (True, True)
    assert record["validation_loss"] == pytest.approx(losses[best])
    assert record["last_validation_loss"] == pytest.approx(losses[done])

    resumed = prepare(config)
    assert [step.index for step in resumed.steps(RunFolder(killed))][-1] == done
    assert resumed.best.record() == record
    assert same(unet(killed / "weights"), truth[best])
    assert same(unet(killed / "last"), truth[done])
    assert list(prepare(config).steps(run)) == []  # it is over, also after it was opened again
    assert same(unet(run.weights), truth[best])


@pytest.mark.slow
def test_a_best_state_that_somebody_removed_is_missed(base: Path, data: Path, tmp_path: Path) -> None:
    config = overfitting(base, data, "lora", keep_best=True, max_train_steps=4, validation_steps=1)
    run = RunFolder.create(config, tmp_path / "run")
    first = steps(config, run)
    next(first)
    first.close()  # type: ignore[attr-defined]
    shutil.rmtree(run.path / "best")
    with pytest.raises(ModelError, match="the best state so far is not there"):
        next(steps(config, run))


@pytest.mark.slow
def test_what_is_kept_is_the_average_where_there_is_one(base: Path, data: Path, tmp_path: Path) -> None:
    config = overfitting(
        base, data, "lora", keep_best=True, use_ema=True, max_train_steps=4, validation_steps=2, checkpointing_steps=2
    )
    trainer = prepare(config)
    run = RunFolder.create(config, tmp_path / "run")
    for step in trainer.steps(run):
        if step.index == trainer.best.step:
            assert trainer.average is not None
            expected = sorted(float(tensor.sum()) for tensor in trainer.average.average)
            kept = load_file(run.path / "best" / str(step.index) / LORA)
            assert sorted(float(tensor.sum()) for tensor in kept.values()) == expected
            plain = sorted(float(parameter.detach().sum()) for parameter in trainer.named.values())
            assert plain != expected
    assert trainer.best.step


@pytest.mark.slow
def test_watching_changes_no_step(base: Path, data: Path, tmp_path: Path) -> None:
    runs = []
    for keeps in (False, True):
        config = overfitting(base, data, "lora", keep_best=keeps, max_train_steps=4, validation_steps=1)
        run = RunFolder.create(config, tmp_path / str(keeps))
        runs.append([(step.loss, step.grad_norm, step.validation_loss) for step in steps(config, run)])
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_a_run_records_and_tells_what_was_taken(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = overfitting(base, data, "lora", max_train_steps=2, validation_steps=1)
    run = api.train(config, out=tmp_path / "run", evaluate=False)
    assert run.config.train.keep_best is True
    best = run.record["best"]
    assert best["last_step"] == 2
    assert best["told"] in capsys.readouterr().err
    assert run.record["base_validation_error"] > 0
    assert run.steps()[-1]["validation_error"] > 0
    sentence = exhibits.validation_sentence(run.steps(), run.record)
    assert "standard error" in sentence
    run.update(best={**best, "taken": True, "told": "The weights are those after step 1."})
    assert "The weights are those after step 1." in card.text(run)
