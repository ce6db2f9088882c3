"""Base and tuned are drawn at identical settings, measured, and never drawn twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from test_encoders import make_tiny_clip
from tiny import make_tiny_sd

from brushwork import config as configs
from brushwork import pairs
from brushwork.errors import ConfigError, ModelError, UserError
from brushwork.evaluate import evaluate
from brushwork.metrics import find
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGET, CONTROL = ("a dog", "a cat", "a fish"), ("a house", "a tree")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a judge and two captioned pictures."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_tiny_sd(folder / "base")
    make_tiny_clip(folder / "judge")
    (folder / "data").mkdir()
    for name, colour in (("a red square", "red"), ("a blue square", "blue")):
        Image.new("RGB", (32, 32), colour).save(folder / "data" / f"{colour}.png")
        (folder / "data" / f"{colour}.txt").write_text(name)
    return folder


def make_run(place: Path, out: Path, *, tuned: Any = None, flip: bool = False, **validation: Any) -> RunFolder:
    """Return a finished run whose weights are a whole pipeline: another random model, or the base itself."""
    settings = {
        "prompts": TARGET,
        "control_prompts": CONTROL,
        "images_per_prompt": 2,
        "num_inference_steps": 2,
        "judge": str(place / "judge"),
    }
    config = configs.load(
        {
            "base": str(place / "base"),
            "method": "full",
            "data": {"path": str(place / "data"), "resolution": 32, "random_flip": flip},
        },
        validation=settings | validation,
        train={"max_train_steps": 1, "device": "cpu"},
    )
    run = RunFolder.create(config, out)
    make_tiny_sd(run.weights, **(tuned or {}))
    run.update(status="trained", base={"name": config.base, "hash": "0" * 32, "family": "sd"}, warnings=[])
    return run


@pytest.fixture(scope="module")
def evaluated(place: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = make_run(place, tmp_path_factory.mktemp("run") / "run", tuned={"seed": 1})
    evaluate(run)
    return run


def test_every_prompt_is_drawn_by_both_at_seeds_of_its_own(evaluated: RunFolder) -> None:
    names = [f"{prompt:05}-{2 * prompt + number}.png" for prompt in range(5) for number in range(2)]
    for side in ("base", "tuned"):
        folder = evaluated.path / "evaluation" / side
        assert sorted(path.name for path in folder.glob("*.png")) == names
        listed = json.loads((folder / "pictures.json").read_text())["pictures"]
        assert [each["prompt"] for each in listed] == [text for text in TARGET + CONTROL for _ in range(2)]
    pairs.check_pairs(evaluated.path / "evaluation")


def test_metrics_json_holds_every_metric_of_both_prompt_sets(evaluated: RunFolder) -> None:
    found = {(each["name"], each["prompt_set"], each["of"]) for each in evaluated.metrics}
    names = ("clip", "gap", "top1", "mrr", "diversity", "memorisation", "saturation", "uptake", "vendi", "blank",
             "clipped", "sharpness")  # fmt: skip
    paired = {(name, kind, of) for name in names for kind in ("target", "control")
              for of in ("base", "tuned", "difference")}  # fmt: skip
    data = {(name, kind, "data") for name in ("saturation", "blank", "clipped", "sharpness")
            for kind in ("target", "control")}  # fmt: skip
    likeness = {("clip_i", "target", of) for of in ("base", "tuned", "difference", "data")}
    sets = {(name, "control", "pairs") for name in ("fd", "kid", "clip_mmd")}  # two training pictures are too few
    same_seed = {(f"same_seed_{name}", kind, "pairs") for name in ("ssim", "psnr") for kind in ("target", "control")}
    ratios = {("drift", "control", "ratio"), ("change", "target", "ratio"), ("change", "control", "ratio")}
    forgetting = {("retention", "control", "tuned"), ("noise_drift", "control", "ratio")}
    assert found == paired | data | likeness | sets | same_seed | ratios | forgetting


def test_the_similarity_can_be_computed_again_from_the_saved_features(evaluated: RunFolder) -> None:
    (stored,) = [
        each
        for each in evaluated.metrics
        if (each["name"], each["prompt_set"], each["of"]) == ("clip", "target", "tuned")
    ]
    (path,) = [
        path for path in (evaluated.path / "evaluation" / "features").iterdir() if stored["revision"] in path.name
    ]
    with np.load(path) as saved:
        features = dict(zip(saved["sha256"].tolist(), saved["features"], strict=True))
        cosines = [
            [features[key] @ text for key in hashes]
            for hashes, text in zip(saved["target_tuned"].tolist(), saved["target_texts"], strict=True)
        ]
    assert np.mean(cosines) == pytest.approx(stored["value"], abs=1e-6)


def test_the_record_says_how_it_was_measured(evaluated: RunFolder) -> None:
    told = json.loads((evaluated.path / "evaluation" / "evaluation.json").read_text())
    assert (told["target"], told["control"], told["images_per_prompt"]) == (list(TARGET), list(CONTROL), 2)
    assert told["judge"]["revision"]
    assert told["settings"]["sampler"] == "DPM++ 2M"
    assert evaluated.record["seconds"]["evaluate"] > 0


def test_a_second_call_draws_nothing_and_says_so(
    evaluated: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs.generate, "draw", lambda *_, **__: pytest.fail("drew again"))
    before = evaluated.metrics
    evaluate(evaluated)
    assert "all 10 pictures are there already" in capsys.readouterr().err
    assert evaluated.metrics == before


def test_only_what_is_missing_is_drawn_again(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(place, tmp_path / "run", prompts=TARGET[:2], control_prompts=())
    evaluate(run, ["saturation"])
    lost = run.path / "evaluation" / "tuned" / "00001-2.png"
    pixels = Image.open(lost).tobytes()
    lost.unlink()
    asked: list[Any] = []
    draw = pairs.generate.draw

    def counting(family: Any, requests: Any, **settings: Any) -> Iterator[Any]:
        asked.extend(requests)
        return draw(family, requests, **settings)

    monkeypatch.setattr(pairs.generate, "draw", counting)
    evaluate(run, ["saturation"])
    assert [(request.prompt, request.seed) for request in asked] == [("a cat", 2)]
    assert Image.open(lost).tobytes() == pixels


def test_other_weights_are_drawn_anew(place: Path, tmp_path: Path) -> None:
    run = make_run(place, tmp_path / "run", prompts=TARGET[:1], control_prompts=())
    evaluate(run, ["saturation"])
    picture = run.path / "evaluation" / "tuned" / "00000-0.png"
    before = Image.open(picture).tobytes()
    make_tiny_sd(run.weights, seed=5)
    evaluate(run, ["saturation"])
    assert Image.open(picture).tobytes() != before


def test_tuned_equal_to_base_measures_zero_everywhere_with_p_one(place: Path, tmp_path: Path) -> None:
    results = evaluate(make_run(place, tmp_path / "run"))
    for name, of, kind in [
        ("clip", "difference", "target"),
        ("saturation", "difference", "target"),
        ("diversity", "difference", "target"),
        ("memorisation", "difference", "target"),
        ("vendi", "difference", "control"),
        ("drift", "ratio", "control"),
    ]:
        result = find(results, name, of, kind)  # type: ignore[arg-type]
        assert result is not None
        assert (result.value, result.interval) == (0.0, (0.0, 0.0))
        assert result.p in (1.0, None)


@pytest.mark.parametrize("flip", [True, False])
def test_training_pictures_are_compared_mirrored_where_training_flipped_them(
    place: Path, tmp_path: Path, flip: bool
) -> None:
    run = make_run(place, tmp_path / "run", flip=flip, prompts=TARGET[:1], control_prompts=(), images_per_prompt=1)
    tuned = find(evaluate(run, ["memorisation"]), "memorisation", "tuned")
    assert tuned is not None
    assert tuned.details["mirrored_too"] is flip
    assert tuned.details["training_pictures"] == 2


def test_pictures_of_other_settings_are_not_paired(evaluated: RunFolder, tmp_path: Path) -> None:
    for side, steps in (("base", 2), ("tuned", 3)):
        listed = json.loads((evaluated.path / "evaluation" / side / "pictures.json").read_text())
        listed["pictures"][4]["steps"] = steps
        (tmp_path / side).mkdir()
        (tmp_path / side / "pictures.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match=r"00002-4\.png cannot be paired: steps is 2 for base and 3 for tuned"):
        pairs.check_pairs(tmp_path)


def test_captions_stand_in_for_prompts(place: Path, tmp_path: Path) -> None:
    run = make_run(place, tmp_path / "run", prompts=(), control_prompts=())
    assert sorted(pairs.plan(run.config).target) == ["a blue square", "a red square"]


def test_a_prompt_cannot_be_its_own_control(place: Path, tmp_path: Path) -> None:
    run = make_run(place, tmp_path / "run", control_prompts=("a cat",))
    with pytest.raises(ConfigError, match=r"'a cat' is both a target and a held-out \(control\) prompt"):
        evaluate(run)


def test_a_run_without_weights_is_refused(place: Path, tmp_path: Path) -> None:
    run = make_run(place, tmp_path / "run")
    run.weights.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="there are no weights yet"):
        evaluate(run)


def test_without_the_automatic_judge_the_rest_is_measured_with_one_warning(place: Path, tmp_path: Path) -> None:
    run = make_run(place, tmp_path / "run", prompts=TARGET[:1], control_prompts=(), judge="auto")
    for _ in range(2):
        names = {"change", "saturation", "same_seed_ssim", "same_seed_psnr", "blank", "clipped", "sharpness"}
        assert {result.name for result in evaluate(run)} == names
    (warning,) = run.record["warnings"]
    assert "not measured" in warning


def test_a_judge_asked_for_by_name_that_is_gone_stops_the_evaluation_before_drawing(
    place: Path, tmp_path: Path
) -> None:
    run = make_run(place, tmp_path / "run", judge=str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"validation\.judge"):
        evaluate(run)
    assert not (run.path / "evaluation").exists()
