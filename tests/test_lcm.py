"""A run of ``--method lcm``, from request to report: it is drawn, measured and told as what it is."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from test_encoders import make_tiny_clip
from tiny import make_tiny_sd

from brushwork import api, card, generate, models, prior, report, sampling
from brushwork import config as configs
from brushwork.cli import run as command_line
from brushwork.errors import ConfigError
from brushwork.metrics import Result, find
from brushwork.runs import RunFolder
from brushwork.settings import Sampling
from brushwork.train import prepare, steps

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config

LCM = Sampling("LCM", 4, 1.0)
WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a judge and three captioned pictures."""
    folder = tmp_path_factory.mktemp("lcm")
    make_tiny_sd(folder / "base", prediction_type="v_prediction")
    make_tiny_clip(folder / "judge")
    (folder / "data").mkdir()
    for name, colour in (("a red square", "red"), ("a blue square", "blue"), ("a green square", "green")):
        Image.new("RGB", (32, 32), colour).save(folder / "data" / f"{colour}.png")
        (folder / "data" / f"{colour}.txt").write_text(name)
    return folder


def make_config(place: Path, method: str = "lcm", /, **changes: Any) -> Config:
    tree: dict[str, Any] = {
        "base": str(place / "base"),
        "data": {"path": str(place / "data"), "resolution": 32, "validation_split": 0.34},
        "optimizer": {"learning_rate": 1e-2},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {
            "prompts": ["a dog", "a cat"], "control_prompts": ["a house"], "images_per_prompt": 2,
            "num_inference_steps": 3, "samples_during_training": 1, "judge": str(place / "judge"), "loss_timesteps": 2,
        },
    }  # fmt: skip
    small = {"method": {"rank": 2}} if method == "lcm" else {}
    return configs.load(configs.merge(configs.merge(tree, small), changes), method=method)


@pytest.fixture(scope="module")
def run(place: Path) -> api.Run:
    return api.train(make_config(place), out=place / "run")


def test_the_preset_is_a_lora_of_the_layers_of_lcm_lora(run: api.Run) -> None:
    assert run.config.method.type == "lora"
    assert run.config.sampling == LCM
    assert run.config.base_sampling == Sampling("DPM++ 2M", 3, 5.0)
    assert configs.load({"data": "engravings"}, method="lcm").name == "lcm"


def test_the_adapter_says_how_it_is_drawn_and_plain_diffusers_does_not_mind(run: api.Run) -> None:
    with safe_open(run.weights / WEIGHTS, framework="pt") as file:
        assert sampling.read(file.metadata()) == LCM
        assert "lora_adapter_metadata" in file.metadata()
    assert sampling.read({sampling.HEADER: "rubbish"}) is None
    assert sampling.read({}) is None


def test_base_and_tuned_are_paired_in_few_steps_and_the_usual_base_stands_beside_them(run: api.Run) -> None:
    listed = {
        side: json.loads((run.path / "evaluation" / side / "pictures.json").read_text())["pictures"]
        for side in ("base", "tuned", "usual")
    }
    assert listed["base"] == listed["tuned"]
    assert {(each["sampler"], each["steps"], each["guidance_scale"]) for each in listed["tuned"]} == {("LCM", 4, 1.0)}
    assert {(each["sampler"], each["steps"], each["guidance_scale"]) for each in listed["usual"]} == {
        ("DPM++ 2M", 3, 5.0)
    }
    for key in ("prompt", "seed", "file"):
        assert [each[key] for each in listed["usual"]] == [each[key] for each in listed["tuned"]]

    told = json.loads((run.path / "evaluation" / "evaluation.json").read_text())
    assert told["usual"] == {"sampler": "DPM++ 2M", "steps": 3, "guidance_scale": 5.0}
    assert (told["settings"]["sampler"], told["settings"]["steps"]) == ("LCM", 4)
    assert min(told["seconds_per_picture"][side] for side in ("base", "tuned", "usual")) > 0


def test_what_tuned_is_held_against_is_told_apart_in_the_numbers(run: api.Run) -> None:
    results = [Result.from_dict(each) for each in run.metrics]
    few, usual = (find(results, "clip", "difference", against=each) for each in ("base", "usual"))
    tuned = [find(results, "clip", "tuned", against=each) for each in ("base", "usual")]
    assert few is not None
    assert usual is not None
    assert few.value != usual.value
    assert tuned[0] is not None
    assert tuned[1] is not None
    assert tuned[0].value == tuned[1].value
    assert {each.against for each in results if each.name == "drift"} == {"base", "usual"}


def test_the_report_says_what_was_compared(run: api.Run) -> None:
    page = run.report().read_text("utf-8")
    said = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for text in (
        "base learns to draw in 4 steps",
        "fine-tuned with LoRA by latent consistency distillation",
        "Base and tuned model are drawn with LCM, 4 steps, guidance 1; the base as usual, in the row above them, with",
        "DPM++ 2M, 3 steps, guidance 5. A picture took the tuned model",
        "as measured while drawing these",
        "From the base as usual to the tuned model, at the same prompts and seeds but not the same settings",
        "The base drew the same prompts and seeds once more as usual",
        "its target moves with the model",
        "base, 4 steps",
        "tuned, 4 steps",
        "base, 3 steps",
    ):
        assert text in said, text
    assert page.count("base, 3 steps, seed") == 6
    assert "(base as usual)" in card.text(run)


def test_a_run_draws_as_it_was_made_for_unless_told_otherwise(
    run: api.Run, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = models.open_model(str(run.path), device="cpu").family
    few, guided = (
        np.asarray(picture.image)
        for steps, scale in ((4, 1.0), (2, 1.5))
        for picture in generate.draw(family, [generate.Request("a cat", "", 1, steps, scale, sampler="LCM")])
    )
    assert np.array_equal(run.generate("a cat", seed=1)[0], few)
    assert np.array_equal(run.generate("a cat", seed=1, steps=2, guidance_scale=1.5)[0], guided)
    for number, model in enumerate((run.path, f"{place / 'base'}+{run.weights / WEIGHTS}")):
        out = tmp_path / str(number)
        assert command_line(["generate", str(model), "a cat", "--seed", "1", "--out", str(out)]) == 0
        assert np.array_equal(Image.open(out / "00000-1.png"), few)
        assert "drawing as the model was made for: LCM, 4 steps, guidance 1" in capsys.readouterr().err
    asked = ["generate", str(run.path), "a cat", "--seed", "1", "--steps", "2", "--cfg", "1.5", "--out", str(tmp_path)]
    assert command_line(asked) == 0
    assert np.array_equal(Image.open(tmp_path / "00000-1.png"), guided)
    plain = ["generate", f"{place / 'base'}+{run.path}@0", "a cat", "--json", "--out", str(tmp_path / "plain")]
    capsys.readouterr()
    assert command_line(plain) == 0
    (picture,) = json.loads(capsys.readouterr().out)
    asked_for = picture["request"]
    assert (asked_for["sampler"], asked_for["steps"], asked_for["guidance_scale"]) == ("DPM++ 2M", 20, 7.0)


def test_a_negative_prompt_without_guidance_is_refused(run: api.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["generate", str(run.path), "a cat", "--negative", "dogs"]) == 2
    assert "negative: cfg 1 is no guidance" in capsys.readouterr().err


def test_adapters_that_want_different_things_must_be_told() -> None:
    other = Sampling("TCD", 8, 1.0)
    assert sampling.agreed([None, LCM, LCM]) == LCM
    assert sampling.agreed([None, None]) is None
    with pytest.raises(ConfigError, match="LCM, 4 steps, guidance 1 and TCD, 8 steps, guidance 1"):
        sampling.agreed([LCM, other])


def test_plain_diffusers_draws_the_same_by_the_lines_of_the_model_card(
    run: api.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    found = re.search(r"```python\n(.*?)```", card.text(run), re.DOTALL)
    assert found
    assert "num_inference_steps=4, guidance_scale=1" in found[1]
    code = found[1].replace('"a dog",', '"a dog", generator=torch.Generator().manual_seed(7), height=32, width=32,')
    monkeypatch.chdir(run.path)
    load = DiffusionPipeline.from_pretrained
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda name: load(name, safety_checker=None))
    names: dict[str, Any] = {"torch": torch}
    exec(code, names)  # noqa: S102  (what the card tells people to run)
    theirs = np.asarray(names["image"], float)
    assert np.abs(theirs - np.asarray(run.generate("a dog", seed=7)[0], float)).max() <= 1


def test_samples_show_the_base_in_few_steps_and_drawn_pictures_are_made_as_usual(place: Path, run: api.Run) -> None:
    from brushwork.infotext import read_png

    (first,) = (run.path / "samples" / "0").glob("*.png")
    assert read_png(first).fields["Sampler"] == "LCM"
    config = make_config(place, preserve={"prompts": ["a cat"], "num_images": 1})
    trainer = prepare(config)
    (drawn,) = trainer.drawn
    settings = json.loads((drawn.folder / prior.SETTINGS).read_text())
    assert (settings["sampler"], settings["steps"], settings["guidance_scale"]) == ("DPM++ 2M", 3, 5.0)


@pytest.mark.parametrize("target", ["student", "average"])
def test_a_resumed_run_equals_an_uninterrupted_one(target: str, place: Path, tmp_path: Path) -> None:
    average = {"use_ema": True, "ema_decay": 0.95} if target == "average" else {}
    changes = {"train": average, "objective": {"target": target}}
    config = make_config(place, **changes)
    whole, halves = RunFolder.create(config, tmp_path / "whole"), RunFolder.create(config, tmp_path / "halves")
    losses = [step.loss for step in steps(config, whole)]
    first = steps(config, halves)
    begun = [step.loss for step in itertools.islice(first, 3)]
    first.close()  # type: ignore[attr-defined]
    assert begun + [step.loss for step in steps(config, halves)] == losses
    assert (halves.weights / WEIGHTS).read_bytes() == (whole.weights / WEIGHTS).read_bytes()


def test_aiming_at_the_average_is_another_loss_and_leaves_the_weights_where_they_were(place: Path) -> None:
    losses = {}
    for target in ("student", "average"):
        changes = {"train": {"use_ema": True, "ema_decay": 0.99}, "objective": {"target": target}}
        losses[target] = [step.loss for step in prepare(make_config(place, **changes)).steps()]
    assert losses["student"][0] == losses["average"][0], "before the first step they are the same"
    assert losses["student"][3] != losses["average"][3]


def test_full_fine_tuning_needs_its_base_and_then_distils_too(place: Path, tmp_path: Path) -> None:
    full = {"objective": {"type": "consistency"}, "optimizer": {"learning_rate": 1e-4}}
    with pytest.raises(ConfigError, match=r"Set method\.keep_base=true"):
        prepare(make_config(place, "full", **full))
    config = make_config(place, "full", **full, method={"keep_base": True})
    made = RunFolder.create(config, tmp_path / "full")
    trainer = prepare(config)
    before = {name: each.detach().clone() for name, each in trainer.named.items()}
    list(trainer.steps(made))
    assert any(not torch.equal(before[name], each) for name, each in trainer.named.items())
    assert all(torch.equal(kept, before[name]) for kept, name in zip(trainer.method._base, before, strict=True))  # type: ignore[attr-defined]
    assert models.open_model(str(made.path), device="cpu").sampling == LCM


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("lora", {"method": {"train_text_encoder": True}}, "it trains text_encoder. Train the denoiser only"),
        ("lora", {"objective": {"target": "average"}}, r"Set train.use_ema=true or objective.target=student"),
        ("lora", {"objective": {"skipped_steps": 30}}, "skipped_steps is 30"),
        ("lora", {"validation": {"negative_prompt": "blurry"}}, "steers by guidance, but pictures are drawn with LCM"),
        ("lora", {"objective": {"guidance_scale_max": 1}}, "guidance_scale_max is only 1"),
        ("textual-inversion", {"method": {"token": "square"}, "data": {"type": "captioned"}}, "it trains embeddings"),
    ],
)
def test_what_cannot_be_honoured_is_refused(method: str, changes: dict[str, Any], message: str, place: Path) -> None:
    wanted = configs.merge({"objective": {"type": "consistency"}}, changes)
    with pytest.raises(ConfigError, match=message):
        prepare(make_config(place, method, **wanted))


def test_every_kind_of_adapter_has_its_own_name_in_the_report(place: Path) -> None:
    names = {"lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT", "full": "full fine-tuning"}
    for method, name in names.items():
        assert f"fine-tuned with {name} on" in report._lead(make_config(place, method), {}, [])
