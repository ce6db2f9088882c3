"""What a run was trained to please is reported, and marked as no evidence wherever it is shown."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from test_encoders import make_tiny_clip
from tiny import make_tiny_sd

from brushwork import card, encoders, report, wording
from brushwork import config as configs
from brushwork.cli import run as command_line
from brushwork.encoders import DEFAULT_JUDGE, OTHER_JUDGE, check_judge, judge_of, own_judge_of
from brushwork.evaluate import evaluate
from brushwork.metrics import OPTIMISED, Result, find
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_other_clip(folder: Path) -> Path:
    """Write a CLIP model like ``make_tiny_clip``'s with other weights."""
    import torch
    from transformers import CLIPModel

    make_tiny_clip(folder)
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.visual_projection.weight.mul_(-1)
    model.save_pretrained(folder)
    return folder


BY_CLIP = (
    "clip", "clip_i", "clip_mmd", "diversity", "drift", "fd", "gap", "kid", "memorisation", "mrr", "retention", "top1",
    "uptake", "vendi",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a CLIP for the loss, another one, and a captioned picture."""
    folder = tmp_path_factory.mktemp("own-judge")
    make_tiny_sd(folder / "base")
    make_tiny_clip(folder / "loss")
    make_other_clip(folder / "other")
    (folder / "data").mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "data" / "red.png")
    (folder / "data" / "red.txt").write_text("a red square")
    return folder


def make_run(place: Path, out: Path, judge: str) -> RunFolder:
    """Return a finished CLIP-guided run whose weights are another random model."""
    config = configs.load(
        {
            "base": str(place / "base"),
            "method": {"type": "full"},
            "data": {"path": str(place / "data"), "resolution": 32, "allow_bad_captions": True},
            "objective": {"type": "clip", "clip": str(place / "loss")},
            "train": {"max_train_steps": 1, "device": "cpu"},
            "validation": {
                "prompts": ["a dog", "a cat"],
                "control_prompts": ["a house", "a tree"],
                "images_per_prompt": 2,
                "num_inference_steps": 1,
                "judge": str(place / judge),
            },
        }
    )
    run = RunFolder.create(config, out)
    make_tiny_sd(run.weights, seed=1)
    own = encoders.load_clip(str(place / "loss"))
    run.update(
        effective_batch=4,
        status="trained", base={"name": config.base, "hash": "0" * 32, "family": "sd"}, warnings=[], total_steps=1,
        seed=0, data={"count": 1, "held_out": 0, "fingerprint": "0"}, optimised_judge={"revision": own.revision},
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def same(place: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that is judged by the CLIP of its own loss."""
    run = make_run(place, tmp_path_factory.mktemp("same") / "run", "loss")
    evaluate(run)
    return run


@pytest.fixture(scope="module")
def another(place: Path, same: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run, judged by another CLIP; its pictures are there already."""
    run = make_run(place, tmp_path_factory.mktemp("another") / "run", "other")
    shutil.copytree(same.weights, run.weights, dirs_exist_ok=True)
    shutil.copytree(same.path / "evaluation", run.path / "evaluation")
    evaluate(run)
    return run


def results(run: RunFolder) -> list[Result]:
    return [Result.from_dict(each) for each in run.metrics]


def page(run: RunFolder, out: Path) -> str:
    return " ".join(
        report.write_report(run, out).read_text("utf-8").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split()
    )


def test_what_the_losss_own_judge_says_is_marked_and_nothing_else(same: RunFolder) -> None:
    caveats = {each.name: each.caveat for each in results(same)}
    without = (
        "blank",
        "change",
        "clipped",
        "noise_drift",
        "same_seed_psnr",
        "same_seed_ssim",
        "saturation",
        "sharpness",
    )
    of_sets = {
        each for each in ("clip_mmd", "fd", "kid", "retention") if (caveats[each] or "").startswith(f"{OPTIMISED}; ")
    }
    assert caveats == {
        **dict.fromkeys(BY_CLIP, OPTIMISED), **dict.fromkeys(without), **{each: caveats[each] for each in of_sets}
    }  # fmt: skip
    assert of_sets == {"clip_mmd", "fd", "kid", "retention"}
    assert {each["caveat"] for each in same.metrics if each["name"] == "clip"} == {OPTIMISED}


def test_a_run_without_another_judge_has_a_warning(same: RunFolder) -> None:
    (warning,) = same.record["warnings"]
    assert "loss's own judge" in warning
    assert "validation.judge" in warning
    told = json.loads((same.path / "evaluation" / "evaluation.json").read_text())
    assert told["judge"] == told["own_judge"]
    assert told["judge"]["caveat"] == OPTIMISED


def test_another_judge_is_heard_first_and_the_losss_own_beside_it(place: Path, another: RunFolder) -> None:
    every = [each for each in results(another) if (each.name, each.of, each.prompt_set) == ("clip", "tuned", "target")]
    assert [(each.encoder, each.caveat) for each in every] == [
        (str(place / "other"), None), (str(place / "loss"), OPTIMISED)
    ]  # fmt: skip
    assert every[0].value == pytest.approx(-every[1].value, abs=1e-6)
    assert find(results(another), "clip", "tuned") == every[0]
    assert find(reversed(results(another)), "clip", "tuned") == every[0]
    assert another.record["warnings"] == []
    told = json.loads((another.path / "evaluation" / "evaluation.json").read_text())
    assert (told["judge"]["caveat"], told["own_judge"]["caveat"]) == (None, OPTIMISED)


def test_the_report_shows_the_marked_number_as_marked(same: RunFolder, another: RunFolder, tmp_path: Path) -> None:
    alone, beside = page(same, tmp_path / "alone.html"), page(another, tmp_path / "beside.html")
    assert alone.count(OPTIMISED) >= 4  # the figure at the top, the verdict, the table, the drift
    assert "Training was paid for this number" in alone
    assert "To this judge, the tuned" not in alone
    assert "Training was paid for this number" not in beside
    assert f"{OPTIMISED}, it " in beside
    assert "Pixel by pixel" in alone
    assert "No judge is asked" in beside


def test_the_model_card_and_the_command_say_so_too(same: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert card.text(same).count(OPTIMISED) == sum(each["caveat"] is not None for each in same.metrics)
    assert command_line(["evaluate", str(same.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [OPTIMISED in line for line in lines] == [line.split()[0] in BY_CLIP for line in lines]


@pytest.mark.parametrize("gone", [True, False])
def test_a_judge_that_changed_since_is_not_taken_for_the_one_that_was_optimised(
    place: Path, another: RunFolder, tmp_path: Path, gone: bool
) -> None:
    moved = tmp_path / "place"
    shutil.copytree(place, moved)
    run = make_run(moved, tmp_path / "run", "other")
    shutil.copytree(another.path / "evaluation", run.path / "evaluation", dirs_exist_ok=True)
    shutil.rmtree(moved / "loss")
    if not gone:
        shutil.copytree(moved / "other", moved / "loss")
    evaluate(run, ["clip"])
    assert {each.caveat for each in results(run)} == {None}
    (warning,) = run.record["warnings"]
    assert "own judge believes is not measured" in warning


def _config(base: str, judge: str = "auto", **objective: Any) -> configs.Config:
    return configs.load(
        {"data": "engravings", "objective": objective or "denoising"}, base=base, validation={"judge": judge}
    )


@pytest.mark.parametrize(
    ("config", "judge", "own"),
    [
        (_config("someone/model"), DEFAULT_JUDGE, None),
        (_config("someone/model", type="clip"), OTHER_JUDGE, DEFAULT_JUDGE),
        (_config("someone/model", type="clip", clip="my/clip"), DEFAULT_JUDGE, "my/clip"),
        (_config("someone/model", DEFAULT_JUDGE, type="clip"), DEFAULT_JUDGE, DEFAULT_JUDGE),
        (_config("mini", type="clip"), "mini-clip", "mini-clip"),
    ],
)
def test_the_automatic_judge_is_another_than_the_losss_where_there_is_one(
    config: configs.Config, judge: str, own: str | None
) -> None:
    assert (judge_of(config), own_judge_of(config)) == (judge, own)


def test_the_user_is_told_before_training() -> None:
    (warning,) = check_judge(_config("mini", type="clip"))
    assert warning.startswith("mini-clip is the loss's own judge")
    assert check_judge(_config("mini")) == []


def _made(name: str, caveat: str | None, values: Sequence[float]) -> list[Result]:
    plain: dict[str, Any] = {
        "version": "1",
        "interval": None,
        "n": 4,
        "direction": "higher",
        "revision": "1",
        "seed": 0,
    }
    details = {"prompts": [{}, {}], "exact": True}
    return [
        Result(
            name="clip", prompt_set="target", of=of, value=value, encoder=name, caveat=caveat, details=details,  # type: ignore[arg-type]
            p=0.01, smallest_p=0.01, **plain,
        )
        for of, value in zip(("base", "tuned", "difference"), values, strict=True)
    ]  # fmt: skip


def test_a_rise_to_the_losss_own_judge_is_never_called_evidence() -> None:
    own, other = _made("a", OPTIMISED, (0.1, 0.4, 0.3)), _made("b", None, (0.2, 0.19, -0.01))
    told, verdict = wording.similarity_sentences(own, "target")
    assert "rose from 0.100 to 0.400" in told
    assert verdict.startswith(f"a is {OPTIMISED}.")
    assert wording.optimised_sentence(own, "target") is None
    assert "fell from 0.200 to 0.190" in wording.similarity_sentences([*own, *other], "target")[0]
    sentence = wording.optimised_sentence([*own, *other], "target")
    assert sentence is not None
    assert sentence.startswith(f"To a, {OPTIMISED}, it rose from 0.100 to 0.400")
