"""Which checkpoint is best, and from when on a run overfits or copies: a written rule, and a run that breaks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from test_encoders import make_tiny_clip

from brushwork import api, curves, models, snapshots
from brushwork import config as configs
from brushwork.curves import Point, decide
from brushwork.errors import ModelError, UserError
from brushwork.evaluate import evaluate_subject, subjects
from brushwork.families import ASSETS
from brushwork.report import write_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
LOW, HIGH = (0.1, 0.11, 0.12, 0.1, 0.11, 0.12), (0.2, 0.22, 0.21, 0.2, 0.23, 0.21)
FIT = (0.5, 0.6, 0.55, 0.5, 0.58, 0.6)


def point(
    step: int, *, fit: float = 0.0, losses: tuple[float, ...] = LOW, copied: float = 0.0, p: float = 1.0
) -> Point:
    fits = tuple(value + fit for value in FIT)
    about = {"copied": copied, "copied_by_base": 0.0, "copied_p": p, "captions": len(fits)}
    return Point(step, fit=sum(fits) / 6, fits=fits, losses=losses, loss=sum(losses) / 6, **about)  # type: ignore[arg-type]


def test_the_best_fits_most_of_those_that_neither_overfit_nor_copy() -> None:
    points = [
        point(1),
        point(2, fit=0.1),
        point(3, fit=0.2),
        point(4, fit=0.3, losses=HIGH),
        point(5, fit=0.4, losses=HIGH),
    ]
    verdict = decide(points)
    assert (verdict.best, verdict.overfits_from, verdict.copies_from) == (3, 4, None)
    assert "step 3" in verdict.told
    assert "From step 4 on the loss on held-out pictures is higher" in verdict.told


def test_the_earliest_wins_where_the_fit_is_no_higher_than_by_noise() -> None:
    uneven = Point(3, fit=0.56, fits=(0.6, 0.7, 0.4, 0.6, 0.5, 0.6), losses=LOW)
    assert decide([point(1), point(2, fit=0.0), uneven]).best == 1


def test_with_too_few_prompts_for_a_test_the_highest_fit_wins() -> None:
    few = [Point(step, fit=fit, fits=(fit, fit)) for step, fit in ((1, 0.3), (2, 0.4), (3, 0.35))]
    assert decide(few).best == 2


def test_copies_are_more_than_the_bases_by_the_test_or_by_half_where_there_is_none() -> None:
    assert point(1, copied=0.4, p=0.03).copies
    assert not point(1, copied=0.4, p=0.06).copies
    assert not point(1, copied=0.0, p=0.03).copies
    few = {"copied_by_base": 0.1, "copied_p": 0.5, "captions": 3}
    assert Point(1, copied=0.6, **few).copies  # type: ignore[arg-type]
    assert not Point(1, copied=0.55, **few).copies  # type: ignore[arg-type]


def test_copying_begins_where_it_does_not_stop_again() -> None:
    points = [point(1, copied=0.5, p=0.03), point(2), point(3, copied=0.5, p=0.03), point(4, copied=1.0, p=0.03)]
    assert (decide(points).copies_from, decide(points).best) == (3, 2)
    assert decide(points[:2]).copies_from is None


def test_where_every_checkpoint_copies_the_one_that_copies_least_is_named_and_that_is_said() -> None:
    verdict = decide([point(1, copied=0.9, p=0.03), point(2, copied=0.7, p=0.03)])
    assert verdict.best == 2
    assert verdict.told.startswith("Every one of 2 checkpoints")


def test_what_could_not_be_seen_is_said() -> None:
    told = decide([Point(1), Point(2)]).told
    assert "nothing was held out" in told
    assert "copies could not be looked for" in told


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> api.Run:
    """A tiny run of six steps with three checkpoints."""
    place = tmp_path_factory.mktemp("curves")
    make_tiny_clip(place / "judge")
    (place / "data").mkdir()
    for number, colour in enumerate(("red", "blue", "green", "gold", "teal", "pink", "gray", "navy")):
        Image.new("RGB", (32, 32), colour).save(place / "data" / f"{number}.png")
        (place / "data" / f"{number}.txt").write_text(f"a {colour} square")
    config = configs.load(
        {"base": str(tiny_sd), "method": "lora", "data": {"path": str(place / "data"), "validation_split": 0.25}},
        validation={
            "prompts": ["a red square", "a blue square"], "control_prompts": ["a house", "a tree"],
            "images_per_prompt": 2, "num_inference_steps": 2, "judge": str(place / "judge"),
            "samples_during_training": 0,
        },
        optimizer={"learning_rate": 1e-2},
        train={
            "max_train_steps": 6, "train_batch_size": 2, "checkpointing_steps": 2, "checkpoints_total_limit": None,
            "use_ema": True, "device": "cpu",
        },
    )  # fmt: skip
    made = api.train(config, out=place / "run", evaluate=False)
    subject = subjects.find(str(made.path))
    evaluate_subject(subject, ["clip"])
    curves.measure(subject)
    return made


def test_every_checkpoint_is_measured_and_the_best_is_written_into_the_run(run: api.Run) -> None:
    told = json.loads((run.path / "checkpoints.json").read_text())
    assert [each["step"] for each in told["points"]] == [2, 4, 6]
    for each in told["points"]:
        assert len(each["losses"]) == 2
        assert None not in (each["fit"], each["clip"], each["drift"], each["copied"], each["loss"])
    assert len({each["fit"] for each in told["points"]}) == 3
    assert told["rule"] == curves.RULE
    assert run.record["best"]["checkpoint"]["step"] == told["best"]
    assert "validation_loss" not in run.record["best"] or run.record["best"]["told"]  # what training watched stays


def test_the_held_out_loss_is_the_one_that_training_logged(run: api.Run) -> None:
    """At the last step, which is validated too."""
    points = json.loads((run.path / "checkpoints.json").read_text())["points"]
    assert points[-1]["loss"] == pytest.approx(run.steps()[-1]["validation_loss"], rel=1e-5)


def pixels(model: str) -> bytes:
    from brushwork import generate

    opened = models.open_model(model, device="cpu")
    (picture,) = generate.draw(opened.family, [generate.Request("a red square", steps=2, seed=3)])
    return picture.image.tobytes()


def test_a_step_of_a_run_is_a_model_and_the_last_one_draws_what_the_run_draws(run: api.Run) -> None:
    drawn = {step: pixels(f"{run.path}@{step}") for step in (2, 6)}
    assert drawn[6] == pixels(str(run.path))
    assert drawn[2] != drawn[6]
    assert pixels(str(run.path / "checkpoints" / "2")) == drawn[2]
    best = run.record["best"]["checkpoint"]["step"]
    assert snapshots.find(f"{run.path}@best") == snapshots.Snapshot(models.as_run(str(run.path)), best) or best  # type: ignore[arg-type]
    assert models.open_model(f"{run.path}@{best}", device="cpu").name == f"run@{best}"


def test_a_step_without_a_checkpoint_is_refused_with_those_that_there_are(run: api.Run) -> None:
    with pytest.raises(ModelError, match=r"no checkpoint of step 5\. It has 2, 4, 6"):
        models.parse(f"{run.path}@5")


def test_a_run_without_an_answer_has_no_best(run: api.Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((run.path / "config.yaml").read_text())
    with pytest.raises(ModelError, match="nobody has looked yet"):
        models.parse(f"{tmp_path}@best")
    with pytest.raises(ModelError, match="no checkpoint to look at"):
        curves.measure(subjects.find(str(tmp_path)))


def test_checkpoints_of_other_models_are_not_asked_for(run: api.Run) -> None:
    from brushwork.cli import evaluate as command

    with pytest.raises(UserError, match="for a run as it is"):
        command._refuse_other_models(subjects.find(f"{run.path}@2"), None)


def test_the_report_shows_the_curves_and_what_was_decided(run: api.Run) -> None:
    page = write_report(run).read_text("utf-8")
    told = json.loads((run.path / "checkpoints.json").read_text())
    assert told["told"].split(" (")[0] in page
    assert page.count('class="best"') >= 4
    assert "Copies of training pictures" in page


def test_a_second_look_draws_nothing(run: api.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from brushwork import pairs

    monkeypatch.setattr(pairs.generate, "draw", lambda *_, **__: pytest.fail("drew again"))
    before: dict[str, Any] = json.loads((run.path / "checkpoints.json").read_text())
    assert curves.measure(subjects.find(str(run.path)))["best"] == before["best"]


def few_engravings(folder: Path, count: int) -> Sequence[str]:
    """Copy so many of the embedded engravings; return their captions."""
    folder.mkdir()
    pictures = sorted((ASSETS / "datasets" / "engravings").glob("*.png"))[:count]
    for picture in pictures:
        for path in (picture, picture.with_suffix(".txt")):
            (folder / path.name).write_bytes(path.read_bytes())
    return [picture.with_suffix(".txt").read_text("utf-8").strip() for picture in pictures]


@pytest.mark.thorough
@pytest.mark.slow
def test_few_pictures_and_many_steps_are_seen_to_overfit(tmp_path: Path) -> None:
    """On the embedded model; `benchmarks/overfitting.py` goes on until it copies."""
    captions = few_engravings(tmp_path / "data", 16)
    method = {"type": "lora", "rank": 32, "alpha": 32, "targets": TARGETS}
    config = configs.load(
        {"base": "mini", "method": method, "data": str(tmp_path / "data")},
        overrides=["data.validation_split=0.5", "objective.rescale_betas_zero_snr=true"],
        validation={
            "prompts": captions[:6], "images_per_prompt": 1, "num_inference_steps": 4, "guidance_scale": 2,
            "samples_during_training": 0,
        },
        optimizer={"learning_rate": 1e-3, "lr_warmup_steps": 16},
        train={
            "max_train_steps": 160, "train_batch_size": 8, "checkpointing_steps": 80, "checkpoints_total_limit": None,
            "validation_steps": 160, "device": "cpu",
        },
    )  # fmt: skip
    subject = subjects.find(str(api.train(config, out=tmp_path / "run", evaluate=False).path))
    evaluate_subject(subject, ["uptake"])
    told = curves.measure(subject)
    assert (told["best"], told["overfits_from"]) == (80, 160)
