"""Diffusion-DPO against its formula, against plain diffusers, and through the loop."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from pairs import make_pairs

from brushwork import api, batches, trackers
from brushwork import config as configs
from brushwork.errors import ConfigError, DataError
from brushwork.runs import RunFolder
from brushwork.tally import Tally
from brushwork.train import Trainer, prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.batches import Batch
    from brushwork.config import Config

BETA = 2000.0
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"type": "lora", "rank": 2},
    "full": {"type": "full", "keep_base": True},
    "lora and text encoder": {"type": "lora", "rank": 2, "train_text_encoder": True},
    "dora": {"type": "lora", "rank": 2, "use_dora": True},
}


MADE: dict[str, dict[str, Any]] = {
    "full without its base": {"type": "full"},
    "word": {"type": "textual_inversion", "token": "<concept>"},
}


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """Six pairs."""
    return make_pairs(tmp_path / "votes")


def make_config(base: Path, data: Path, /, method: str = "lora", **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "base": str(base),
        "method": {**MADE, **METHODS}[method],
        "data": {"type": "pairs", "path": str(data), "resolution": 32, "validation_split": 0.2},
        "objective": {"type": "dpo", "beta": BETA},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0, "num_inference_steps": 1},
    }
    return configs.load(configs.merge(tree, changes))


def first_batch(trainer: Trainer, count: int = 4) -> Batch:
    rows = [trainer.examples[position] for position in range(count)]
    return batches.collate(rows, trainer.examples, trainer.encoder)


def wander(trainer: Trainer) -> None:
    """Move what is trained a little, so that model and base differ."""
    generator = torch.Generator().manual_seed(0)
    for parameter in trainer.named.values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(
    ("method", "precision"),
    # Not DoRA in bf16: it normalises the weights, so that it begins beside the base by a rounding.
    [*((method, "no") for method in METHODS), *((method, "bf16") for method in METHODS if method != "dora")],
)
def test_at_the_start_every_loss_is_log_2_and_has_a_gradient(
    tiny_sd: Path, votes: Path, method: str, precision: str
) -> None:
    """With no difference to the base sigmoid(0) = 1/2."""
    trainer = prepare(make_config(tiny_sd, votes, method, train={"mixed_precision": precision}))
    tally = Tally()
    losses = trainer.losses(first_batch(trainer), tally)
    assert torch.equal(losses, torch.full((4,), math.log(2)))
    assert tally.means() == {"implicit_accuracy": 0.5, "chosen_gain": 0.0}
    losses.mean().backward()
    assert all(each.grad is not None for each in trainer.named.values())
    assert any(each.grad is not None and each.grad.abs().max() > 0 for each in trainer.named.values())
    wander(trainer)
    assert not torch.equal(trainer.losses(first_batch(trainer), Tally()), losses)


def test_autocast_takes_the_base_for_the_base_and_the_model_for_the_model(tiny_sd: Path, votes: Path) -> None:
    """It remembers the weights that it cast, so weights that were swapped meanwhile would be used for one another."""
    gains = []
    for precision in ("no", "bf16"):
        trainer, tally = prepare(make_config(tiny_sd, votes, "full", train={"mixed_precision": precision})), Tally()
        wander(trainer)
        trainer.losses(first_batch(trainer), tally)
        gains.append(tally.means()["chosen_gain"])
    assert gains[1] == pytest.approx(gains[0], rel=0.1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_losses_equal_a_direct_computation_with_diffusers(
    tiny_sd: Path, tiny_sd_v: Path, votes: Path, tmp_path: Path, prediction: str
) -> None:
    """Equation 14 in the form of the authors' code, with two whole pipelines: the base's folder and the tuned one's."""
    base = tiny_sd if prediction == "epsilon" else tiny_sd_v
    trainer = prepare(make_config(base, votes, "full"))
    wander(trainer)
    batch, tally = first_batch(trainer), Tally()
    losses = trainer.losses(batch, tally)
    trainer.method.save(trainer.family, tmp_path / "tuned")

    scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
    assert batch.rejected is not None
    times = (batch.uniform * 1000).long().repeat(2)
    latents, noise = torch.cat([batch.latents, batch.rejected]), torch.cat([batch.noise, batch.noise])
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, times)
    errors = {}
    for name, folder in {"base": base, "tuned": tmp_path / "tuned"}.items():
        pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        states, _ = pipe.encode_prompt(batch.captions, "cpu", 1, do_classifier_free_guidance=False)
        with torch.no_grad():
            predicted = pipe.unet(scheduler.add_noise(latents, noise, times), times, states.repeat(2, 1, 1)).sample
        errors[name] = (predicted - target).square().mean((1, 2, 3)).chunk(2)
    (tuned_w, tuned_l), (base_w, base_l) = errors["tuned"], errors["base"]
    inside = -0.5 * BETA * ((tuned_w - tuned_l) - (base_w - base_l))
    torch.testing.assert_close(losses, -torch.nn.functional.logsigmoid(inside), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(losses, torch.full((4,), math.log(2)), atol=1e-2)
    numbers = tally.means()
    assert numbers["implicit_accuracy"] == float((inside > 0).float().mean())
    assert numbers["chosen_gain"] == pytest.approx(float((base_w - tuned_w).mean()), abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_prefers_the_chosen_pictures(tiny_sd: Path, votes: Path, method: str) -> None:
    """The gradient lowers the error of what was chosen against that of what was rejected; swapped, the other way."""
    margins = []
    for swap in (False, True):
        table = votes / "metadata.jsonl"
        if swap:
            rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
            swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
            table.write_text("\n".join(map(json.dumps, swapped)), "utf-8")
        changes: dict[str, Any] = {"train": {"max_train_steps": 12, "train_batch_size": 4}}
        trainer = prepare(make_config(tiny_sd, votes, method, data={"validation_split": 0}, **changes))
        log = list(trainer.steps())
        assert log[0].numbers["implicit_accuracy"] == 0.5
        assert min(step.loss for step in log[-4:]) < math.log(2)
        batch = first_batch(trainer)
        if swap:
            assert batch.rejected is not None
            batch = batches.Batch(**{**vars(batch), "latents": batch.rejected, "rejected": batch.latents})
        margins.append(trainer.losses(batch, Tally()).mean().item())
    assert margins[0] < math.log(2) < margins[1]


def test_the_same_noise_timestep_flip_and_crop_meet_both_pictures(tiny_sd: Path, votes: Path) -> None:
    """A pair of a picture with a copy of itself (in another file format) has equal latents, however it is augmented."""
    from PIL import Image

    row = json.loads((votes / "metadata.jsonl").read_text("utf-8").splitlines()[0])
    Image.open(votes / row["chosen"]).save(votes / "copy.bmp")
    (votes / "metadata.jsonl").write_text(json.dumps({**row, "rejected": "copy.bmp"}), "utf-8")
    for data in ({"random_flip": True}, {"random_flip": True, "center_crop": False}):
        trainer = prepare(make_config(tiny_sd, votes, data={"validation_split": 0, **data}))
        batch = first_batch(trainer, 8)
        assert batch.rejected is not None
        torch.testing.assert_close(batch.latents, batch.rejected, rtol=0, atol=1e-5)
        assert len({str(each) for each in batch.latents[:, 0, 0, 0].tolist()}) == 8
        pixels = [trainer.encoder.pictures.pixels(0, flip=flip, rejected=True) for flip in (False, True)]
        assert torch.equal(pixels[0].flip(-1), pixels[1])


def test_caches_hold_both_pictures_and_change_nothing(tiny_sd: Path, votes: Path) -> None:
    trainer = prepare(make_config(tiny_sd, votes))
    assert trainer.encoded == {"latents": 12, "texts": 6}
    assert prepare(make_config(tiny_sd, votes)).encoded == {"latents": 0, "texts": 0}
    cached = [step.losses for step in trainer.steps()]
    plain = make_config(tiny_sd, votes, train={"cache_latents": False, "cache_text": False})
    for one, other in zip(cached, [step.losses for step in steps(plain)], strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_sd: Path, votes: Path, tmp_path: Path, method: str) -> None:
    config = make_config(tiny_sd, votes, method, train={"gradient_accumulation_steps": 2})
    whole, halves = RunFolder.create(config, tmp_path / "whole"), RunFolder.create(config, tmp_path / "halves")
    expected = [(step.losses, step.grad_norm, step.numbers) for step in steps(config, whole)]
    first = steps(config, halves)
    seen = [(step.losses, step.grad_norm, step.numbers) for step in itertools.islice(first, 3)]
    first.close()  # type: ignore[attr-defined]
    seen += [(step.losses, step.grad_norm, step.numbers) for step in steps(config, halves)]
    assert seen == expected
    files = sorted(path.relative_to(whole.weights) for path in whole.weights.rglob("*.safetensors"))
    assert files
    assert all((halves.weights / name).read_bytes() == (whole.weights / name).read_bytes() for name in files)


def test_accuracy_is_logged_tracked_and_charted(tiny_sd: Path, votes: Path, tmp_path: Path) -> None:
    config = make_config(tiny_sd, votes, train={"validation_steps": 2})
    run = api.train(config, out=tmp_path / "run", evaluate=False)
    log = run.steps()
    assert all(0 <= step["numbers"]["implicit_accuracy"] <= 1 for step in log)
    assert [index for index, step in enumerate(log, 1) if "validation_implicit_accuracy" in step["numbers"]] == [2, 4]
    assert run.record["base_validation_loss"] == pytest.approx(math.log(2))
    page = run.report().read_text("utf-8")
    assert "LoRA by preferences (DPO) on 10 pictures" in page or "LoRA by preferences (DPO) on 12 pictures" in page
    assert "Implicit accuracy" in page
    step = next(steps(config))
    assert trackers.values(step)["implicit_accuracy"] == 0.5


def test_pairs_with_a_common_picture_are_held_out_together(tiny_sd: Path, votes: Path) -> None:
    rows = [json.loads(line) for line in (votes / "metadata.jsonl").read_text("utf-8").splitlines()]
    shared = [*rows, {**rows[0], "rejected": rows[1]["chosen"]}, {**rows[2], "chosen": rows[3]["rejected"]}]
    (votes / "metadata.jsonl").write_text("\n".join(map(json.dumps, shared)), "utf-8")
    for seed in range(3):
        data = prepare(make_config(tiny_sd, votes, data={"validation_split": 0.3}, seed=seed), encode=False).data
        sides = [
            {digest for index in side for digest in (data.digests[index], data.rejected[index])}
            for side in (data.train, data.held_out)
        ]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]


def test_a_picture_preferred_to_itself_is_refused(tiny_sd: Path, votes: Path) -> None:
    (votes / "0-colour.png").write_bytes((votes / "0-grey.png").read_bytes())
    with pytest.raises(DataError, match=r"in 1 of 6 pairs the chosen and the rejected picture are the same: .*0-grey"):
        prepare(make_config(tiny_sd, votes), encode=False)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("full without its base", {}, r"Set method\.keep_base=true"),
        ("lora", {"objective": {"type": "denoising"}}, "no use for the rejected pictures.\nTo learn .* dpo"),
        ("lora", {"preserve": {}}, "preserve: the objective dpo learns from pairs"),
    ],
)
def test_what_cannot_go_together_is_refused(
    tiny_sd: Path, votes: Path, method: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(make_config(tiny_sd, votes, method, **changes))


def test_without_pairs_there_is_nothing_to_learn(tiny_sd: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match=r"learns from preference pairs, but data\.type=captioned has none"):
        prepare(make_config(tiny_sd, tiny_data, data={"type": "captioned", "path": str(tiny_data), "resolution": 32}))


def test_a_learnt_word_can_prefer_too(tiny_sd: Path, votes: Path) -> None:
    """The base reads the captions with what the word meant at first."""
    table = votes / "metadata.jsonl"
    table.write_text(table.read_text("utf-8").replace("a drawing", "a <concept> drawing"), "utf-8")
    trainer = prepare(make_config(tiny_sd, votes, "word", train={"max_train_steps": 2}))
    log = list(trainer.steps())
    assert log[0].loss == pytest.approx(math.log(2))
    assert log[1].loss != log[0].loss


def test_the_preset_needs_only_the_pairs(votes: Path) -> None:
    config = configs.load(method="dpo", data=str(votes))
    assert (config.method.type, config.data.type, config.objective.type) == ("lora", "pairs", "dpo")
    assert config.objective.beta == 5000  # type: ignore[attr-defined]
