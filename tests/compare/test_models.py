"""Models, runs and adapters side by side, swept, and proved to be active."""

from __future__ import annotations

import importlib
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from test_encoders import make_tiny_clip
from tiny import make_tiny_sd

import brushwork as bw
from brushwork import checkpoints, families, generate, models
from brushwork.compare import sides
from brushwork.errors import ConfigError, ModelError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brushwork.compare.output import Comparison

PROMPTS, CONTROL = ["a cat", "a dog", "a fish"], ["a house", "a tree"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, another of other latents, a judge, data, and two runs: LoRA and full."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_sd(folder / "tiny")
    make_tiny_sd(folder / "other", seed=1, sample_size=16)
    make_tiny_clip(folder / "judge")
    (folder / "data").mkdir()
    for colour in ("red", "blue", "green", "white"):
        Image.new("RGB", (32, 32), colour).save(folder / "data" / f"{colour}.png")
        (folder / "data" / f"{colour}.txt").write_text(f"a {colour} cat")
    for method, rate in (("lora", 0.1), ("full", 1e-3)):
        bw.train(
            {
                "base": str(folder / "tiny"),
                "method": method,
                "data": {"path": str(folder / "data"), "resolution": 32},
                "optimizer": {"learning_rate": rate},
                "train": {
                    "max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2,
                    "checkpoints_total_limit": None, "device": "cpu",
                },
                "validation": {"prompts": PROMPTS, "control_prompts": CONTROL, "samples_during_training": 0,
                               "judge": str(folder / "judge")},
            },
            out=folder / method,
            evaluate=False,
        )  # fmt: skip
    return folder


def compare(place: Path, *texts: str, **changes: Any) -> Comparison:
    validation = {"images_per_prompt": 2, "num_inference_steps": 2, "judge": str(place / "judge")}
    given = changes.pop("validation", {})
    return bw.compare(*texts, validation=validation | given, **changes)


@pytest.fixture(scope="module")
def compared(place: Path) -> Comparison:
    return compare(place, str(place / "lora"), str(place / "full"), out=place / "compared")


def line(found: Comparison, label: str, metric: str, prompt_set: str = "target") -> dict[str, Any]:
    (numbers,) = (each["numbers"] for each in found.record["lines"] if each["label"] == label)
    (one,) = (each for each in numbers if (each["metric"], each["prompt_set"]) == (metric, prompt_set))
    return one


def picture(found: Comparison, label: str, name: str) -> np.ndarray[Any, Any]:
    (side,) = (each for each in found.record["sides"] if each["label"] == label)
    with Image.open(found.folder / "pictures" / side["folder"] / name) as image:
        return np.asarray(image.convert("RGB"), np.float64)


def test_runs_of_one_base_are_held_against_it(compared: Comparison) -> None:
    assert compared.record["reference"] == "tiny"
    assert [each["label"] for each in compared.record["lines"]] == ["tiny", "lora", "full"]
    assert compared.record["prompts"] == {"target": PROMPTS, "control": CONTROL, "seeds": 2}


def test_every_side_draws_the_same_prompts_and_seeds_as_generate_does(compared: Comparison, place: Path) -> None:
    model = models.open_model(str(place / "lora"))
    settings = {"steps": 2, "guidance_scale": 5.0, "sampler": "DPM++ 2M"}
    asked = [generate.Request("a dog", seed=seed, **settings) for seed in (2, 3)]  # type: ignore[arg-type]
    for request, drawn in zip(asked, generate.draw(model.family, asked), strict=True):
        there = picture(compared, "lora", f"00001-{request.seed}.png")
        assert np.abs(there - np.asarray(drawn.image, np.float64)).max() <= 1  # another batch: the last bits
    names = {label: sorted(each["files"]) for each in compared.record["sides"] for label in [each["label"]]}
    assert names["lora"] == names["full"] == names["tiny"]


def test_the_difference_is_paired_with_the_base_and_can_be_computed_again(compared: Comparison) -> None:
    (path,) = (each for each in (compared.folder / "features").iterdir() if "judge" in each.name)
    told = line(compared, "lora", "clip")
    base = line(compared, "tiny", "clip")
    assert told["difference"] == pytest.approx(told["value"] - base["value"], abs=1e-9)
    assert (told["paired"], base["difference"]) == ("seed", None)
    assert told["p_holm"] >= told["p"] >= told["smallest_p"] == 0.25
    with np.load(path) as stored:
        assert len(stored["features"]) > 20
    numbers = {(each["metric"], each["prompt_set"]) for each in compared.record["lines"][1]["numbers"]}
    assert {("clip_i", "target"), ("drift", "control"), ("memorisation", "target")} <= numbers


def test_the_same_again_draws_nothing(compared: Comparison, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "draw", lambda *_, **__: pytest.fail("drew again"))
    again = compare(place, str(place / "lora"), str(place / "full"), out=place / "compared")
    assert untimed(again.record) == untimed(compared.record)


def untimed(record: dict[str, Any]) -> str:
    """Return a record without the time that a picture took: another test has one drawn again, in its own time."""
    sides = [{**side, "seconds_per_picture": None} for side in record["sides"]]
    return json.dumps({**record, "sides": sides})


def test_only_what_is_missing_is_drawn_again(
    compared: Comparison, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = next(compared.folder / "pictures" / each["folder"] for each in compared.record["sides"]) / "00002-5.png"
    pixels = Image.open(lost).tobytes()
    lost.unlink()
    asked: list[Any] = []
    draw = generate.draw

    def counting(family: Any, requests: Any, **settings: Any) -> Iterator[Any]:
        asked.extend(requests)
        return draw(family, requests, **settings)

    monkeypatch.setattr(generate, "draw", counting)
    compare(place, str(place / "lora"), str(place / "full"), out=place / "compared")
    assert [(each.prompt, each.seed) for each in asked] == [("a fish", 5)]
    before, after = (np.frombuffer(each, np.uint8).astype(int) for each in (pixels, Image.open(lost).tobytes()))
    assert np.abs(before - after).max() <= 1


def test_another_request_does_not_take_the_folder(compared: Comparison, place: Path) -> None:
    with pytest.raises(UserError, match="holds another comparison: models was"):
        compare(place, str(place / "lora"), out=compared.folder)


def test_the_page_is_one_file_and_the_grid_is_labelled(compared: Comparison) -> None:
    page = compared.page.read_text("utf-8")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page
    assert page.count("data:image/") == 3 * (len(PROMPTS) + len(CONTROL))
    assert compared.grid.size[0] == 150 + 3 * 134
    assert (compared.folder / "grid.png").is_file()
    assert "CLIP-T" in str(compared)


def test_the_proof_is_the_norm_of_what_the_file_adds(compared: Comparison, place: Path) -> None:
    from safetensors.torch import load_file

    (side,) = (each for each in compared.record["sides"] if each["label"] == "lora")
    part = side["proof"]["parts"]["unet"]
    state = load_file(place / "lora" / "weights" / "pytorch_lora_weights.safetensors")
    downs = [key for key in state if "lora_A" in key or "lora.down" in key]
    total = 0.0
    for key in downs:
        up = key.replace("lora_A", "lora_B").replace("lora.down", "lora.up")
        total += float((state[up] @ state[key]).double().square().sum())  # alpha is the rank
    assert part["layers"] == side["proof"]["layers_in_files"] == side["proof"]["layers_carried"] == len(downs)
    assert part["delta"] == pytest.approx(math.sqrt(total), rel=1e-5)
    assert side["proof"]["differ"] == side["proof"]["pairs"] == 10
    expected = np.mean([
        np.abs(picture(compared, "lora", name) - picture(compared, "tiny", name)).mean() for name in side["files"]
    ])  # fmt: skip
    assert side["proof"]["mean_difference"] == pytest.approx(expected)


def test_a_whole_model_is_proved_against_its_base(compared: Comparison, place: Path) -> None:
    (side,) = (each for each in compared.record["sides"] if each["label"] == "full")
    base, tuned = (families.load(str(place / name)) for name in ("tiny", "full/weights"))
    total = sum(
        float((one - other).double().square().sum())
        for one, other in zip(base.denoiser.parameters(), tuned.denoiser.parameters(), strict=True)
    )
    assert side["proof"]["parts"]["unet"]["delta"] == pytest.approx(math.sqrt(total), rel=1e-6)
    assert set(side["proof"]["parts"]) == {"unet"}


def test_an_empty_adapter_is_found_out(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(place / "lora" / "weights" / "pytorch_lora_weights.safetensors")
    save_file({key: tensor * (0 if "B" in key.split(".")[-2] or "up" in key else 1) for key, tensor in state.items()},
              tmp_path / "empty.safetensors")  # fmt: skip
    text = f"{place / 'tiny'}+{tmp_path / 'empty.safetensors'}"
    found = compare(place, text, validation={"prompts": ["a cat", "a dog"]}, metrics=["saturation"], out=tmp_path / "x")
    assert "NOTHING CHANGED" in capsys.readouterr().err
    assert any("NOTHING CHANGED" in each for each in found.record["warnings"])
    assert line(found, "tiny+empty.safetensors", "saturation")["difference"] == 0


def test_weights_are_swept_and_none_is_the_base(place: Path, tmp_path: Path) -> None:
    found = compare(
        place, str(place / "lora"), sweep=["weight=0,0.5,1"], validation={"prompts": ["a cat", "a dog"]},
        out=tmp_path / "x",
    )  # fmt: skip
    labels = [each["label"] for each in found.record["lines"]]
    assert labels == ["weight 0", "weight 0.5", "weight 1"]
    alone = compare(place, str(place / "tiny"), str(place / "lora"), validation={"prompts": ["a cat", "a dog"]},
                    metrics=["saturation"], out=tmp_path / "y")  # fmt: skip
    for swept, plain in (("weight 0", "tiny"), ("weight 1", "lora")):
        np.testing.assert_array_equal(picture(found, swept, "00000-0.png"), picture(alone, plain, "00000-0.png"))
    deltas = [
        each["proof"]["parts"]["unet"]["delta"] if each["proof"]["parts"] else 0 for each in found.record["sides"]
    ]
    assert deltas[0] == 0
    assert deltas[1] == pytest.approx(deltas[2] / 2, rel=1e-5)
    assert line(found, "weight 0.5", "change")["value"] > 0
    assert found.record["warnings"] == []


def test_settings_and_words_are_swept(place: Path, tmp_path: Path) -> None:
    found = compare(
        place, str(place / "tiny"), sweep=["steps=1,2", "cfg=1,4", "prompt:cat=dog"], metrics=["clip"],
        validation={"prompts": ["a cat"], "images_per_prompt": 1}, out=tmp_path / "x",
    )  # fmt: skip
    model = models.open_model(str(place / "tiny"))
    assert len(found.record["sides"]) == 8
    for side in found.record["sides"]:
        request = generate.Request(
            f"a {side['at']['prompt (cat)']}", steps=int(side["at"]["steps"]), guidance_scale=float(side["at"]["cfg"])
        )
        (drawn,) = generate.draw(model.family, [request])
        assert side["prompts"] == [request.prompt]
        np.testing.assert_array_equal(picture(found, side["label"], "00000-0.png"), np.asarray(drawn.image, np.float64))
    page = found.page.read_text("utf-8")
    assert all(f"clip {each['numbers'][0]['by_prompt'][0]:.3f}".replace("-", "\N{MINUS SIGN}") in page
               for each in found.record["lines"])  # fmt: skip
    # The judge reads the words that were drawn.
    values = {each["label"]: each["numbers"][0]["value"] for each in found.record["lines"]}
    assert values["steps 2, cfg 4, prompt (cat) dog"] != values["steps 2, cfg 4, prompt (cat) cat"]


def test_the_last_checkpoint_is_the_run_itself(place: Path, tmp_path: Path) -> None:
    assert checkpoints.steps(place / "full" / "checkpoints") == [2, 4]
    found = compare(place, str(place / "full"), sweep=["checkpoint=2,4"], metrics=["saturation"], out=tmp_path / "x",
                    validation={"prompts": ["a cat"], "images_per_prompt": 1})  # fmt: skip
    whole = compare(place, str(place / "full"), metrics=["saturation"], out=tmp_path / "y",
                    validation={"prompts": ["a cat"], "images_per_prompt": 1})  # fmt: skip
    last, first = (picture(found, f"checkpoint {step}", "00000-0.png") for step in (4, 2))
    np.testing.assert_array_equal(last, picture(whole, "full", "00000-0.png"))
    assert (first != last).any()
    with pytest.raises(ModelError, match=r"no checkpoint at step 3\. It kept those at 2, 4"):
        compare(place, str(place / "full"), sweep=["checkpoint=3"], out=tmp_path / "z")
    assert not (tmp_path / "z").exists()


def test_another_shape_of_noise_is_paired_by_prompt_only(place: Path, tmp_path: Path) -> None:
    found = compare(place, str(place / "tiny"), str(place / "other"), out=tmp_path / "x",
                    validation={"prompts": PROMPTS, "control_prompts": CONTROL})  # fmt: skip
    assert line(found, "other", "clip")["paired"] == "prompt"
    metrics = {each["metric"] for each in found.record["lines"][1]["numbers"]}
    assert not metrics & {"drift", "change", "same_seed_ssim", "same_seed_psnr"}
    assert "clip" in metrics
    assert "paired by prompt" in found.page.read_text("utf-8")


def test_references_may_be_any_pictures(place: Path, tmp_path: Path) -> None:
    metrics = ["clip_i", "saturation"]
    found = compare(place, str(place / "tiny"), references=str(place / "data"), out=tmp_path / "x",
                    validation={"prompts": ["a cat", "a dog"]}, metrics=metrics)  # fmt: skip
    assert line(found, "tiny", "clip_i")["n"] == 4
    assert found.record["data"]["saturation"] == pytest.approx(0.75)


@pytest.mark.parametrize(("texts", "changes", "said"), [
    (["tiny", "tiny"], {}, "given twice"),
    (["tiny"], {"sweep": ["weight=1"]}, "no adapter"),
    (["full"], {"sweep": ["weight=1"]}, "a whole model"),
    (["tiny"], {"sweep": ["checkpoint=1"]}, "no run"),
    (["tiny"], {"sweep": ["prompt:zeppelin=dog"]}, "no prompt has the words"),
    (["tiny"], {"metrics": ["clpi"]}, "Did you mean clip"),
    (["tiny"], {"validation": {"judge": "./nowhere"}}, "nowhere"),
    (["tiny"], {"overrides": ["train.max_train_steps=3"]}, "only keys of validation"),
    (["tiny"], {"modles": 1}, "modles is not a known key"),
    (["tiny"], {"validation": {"prompts": ["a"], "control_prompts": ["a"]}}, "take it out"),
    (["nowhere"], {}, "no folder or file"),
])  # fmt: skip
def test_a_wrong_request_is_refused_before_anything_is_written(
    texts: list[str], changes: dict[str, Any], said: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        compare(place, *(str(place / text) for text in texts), out=tmp_path / "x", **changes)
    assert not (tmp_path / "x").exists()


def test_models_and_methods_exclude_one_another(place: Path) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        bw.compare(str(place / "tiny"), methods=["full"], data="engravings", steps=1)


def test_a_prompt_is_drawn_with_the_word_and_read_with_its_meaning(place: Path) -> None:
    validation = bw.load_config({"data": str(place / "data")}).validation
    wanted = sides.Wanted(("a sks cat runs",), (), 1, validation, concept="sks cat", means="cat")
    learnt, plain = (sides.Side("x", "tiny", "x", word=word) for word in ("<new>", None))
    drawn = [sides.requests(side, wanted)[0].prompt for side in (learnt, plain)]
    assert drawn == ["a <new> runs", "a sks cat runs"]
    assert {sides.text_of(side, "a sks cat runs", wanted) for side in (learnt, plain)} == {"a cat runs"}


def test_the_package_keeps_the_function_and_the_module_of_that_name(compared: Comparison) -> None:
    module = importlib.import_module("brushwork.compare")
    assert bw.compare is module.compare
    assert bw.Comparison is module.Comparison is type(compared)
