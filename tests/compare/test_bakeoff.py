"""Several methods from the same request: the same prompts and judge, honest costs, and the same end after a kill."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from test_encoders import make_tiny_clip
from tiny import make_tiny_sd

import brushwork as bw
from brushwork import runs
from brushwork.compare import bakeoff, training
from brushwork.config import to_yaml
from brushwork.errors import ConfigError, RunFailed, UserError

if TYPE_CHECKING:
    from pathlib import Path

    from warm import Server

    from brushwork.compare.output import Comparison

CONCEPT = "red ink"
PROMPTS, CONTROL = [f"a cat, {CONCEPT}", f"a dog, {CONCEPT}"], ["a house", "a tree"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a judge and data."""
    folder = tmp_path_factory.mktemp("bakeoff")
    make_tiny_sd(folder / "tiny")
    make_tiny_clip(folder / "judge")
    (folder / "data").mkdir()
    for name in ("cat", "dog", "fish", "owl"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / f"{name}.png")
        (folder / "data" / f"{name}.txt").write_text(f"a {name}, {CONCEPT}")
    return folder


def wish(place: Path, **changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "base": str(place / "tiny"),
        "methods": {
            "low": {"preset": "lora", "method": {"rank": 2}, "optimizer": {"learning_rate": 0.05}},
            "textual-inversion": {"data": {"templates": "style"}},
        },
        "data": {"path": str(place / "data"), "resolution": 32},
        "concept": CONCEPT,
        "steps": 3,
        "train": {"train_batch_size": 2, "checkpointing_steps": 1, "device": "cpu"},
        "validation": {
            "prompts": PROMPTS, "control_prompts": CONTROL, "images_per_prompt": 2, "num_inference_steps": 2,
            "judge": str(place / "judge"),
        },
    }  # fmt: skip
    return tree | changes


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train here: a process each costs seconds. ``test_a_real_process`` starts one."""
    monkeypatch.setattr(training, "launch", training.carry_out)


@pytest.fixture(scope="module")
def baked(place: Path) -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "launch", training.carry_out)
        return bw.compare(**wish(place, seeds=2), out=place / "baked")


def costs(found: Comparison) -> dict[str, Any]:
    return {each["label"]: each["cost"] for each in found.record["lines"]}


def test_every_method_is_a_line_beside_the_base(baked: Comparison) -> None:
    assert [each["label"] for each in baked.record["lines"]] == ["base", "low", "textual-inversion"]
    assert [each["label"] for each in baked.record["sides"]][:3] == ["base", "low, seed 0", "low, seed 1"]
    assert sorted(each.name for each in (baked.folder / "runs").iterdir()) == [
        "low-0", "low-1", "textual-inversion-0", "textual-inversion-1",
    ]  # fmt: skip


def test_the_costs_are_those_of_the_runs(baked: Comparison) -> None:
    found = costs(baked)
    assert found["base"] is None
    assert {name: found[name]["steps"] for name in ("low", "textual-inversion")} == {"low": 3, "textual-inversion": 3}
    assert found["low"]["pictures_seen"] == 6
    run = runs.RunFolder(baked.folder / "runs" / "low-0")
    assert found["low"]["trainable_parameters"] == run.record["trainable_parameters"]
    assert found["low"]["artefact_bytes"] == (run.weights / "pytorch_lora_weights.safetensors").stat().st_size
    assert found["low"]["artefact_bytes"] > found["textual-inversion"]["artefact_bytes"]
    seconds = [
        sum(step["seconds"] for step in runs.RunFolder(baked.folder / "runs" / f"low-{seed}").steps())
        for seed in (0, 1)
    ]
    assert found["low"]["step_seconds"] == pytest.approx(np.mean(seconds))
    assert found["low"]["learning_rate"] == 0.05
    (low,) = (each for each in baked.record["lines"] if each["label"] == "low")
    assert any("no warm-up" in reason or "warm-up" in reason for reason in low["chosen"])


def test_two_training_seeds_are_one_line_with_both_values(baked: Comparison) -> None:
    (numbers,) = (each["numbers"] for each in baked.record["lines"] if each["label"] == "low")
    (clip,) = (each for each in numbers if (each["metric"], each["prompt_set"]) == ("clip", "target"))
    assert clip["value"] == pytest.approx(np.mean(clip["runs"]))
    assert len(set(clip["runs"])) == 2
    assert clip["interval"][0] <= clip["value"] <= clip["interval"][1]
    assert clip["n"] == 2 * len(PROMPTS) * 2
    (drift,) = (each for each in numbers if each["metric"] == "drift")
    assert drift["interval"][0] <= drift["value"] <= drift["interval"][1]


def test_a_method_with_a_word_of_its_own_draws_it_where_the_concept_stands(baked: Comparison) -> None:
    prompts = {each["label"]: each["prompts"] for each in baked.record["sides"]}
    assert prompts["textual-inversion, seed 0"] == ["a cat, <concept>", "a dog, <concept>", *CONTROL]
    assert prompts["base"] == prompts["low, seed 1"] == [*PROMPTS, *CONTROL]


def test_textual_inversion_leaves_prompts_without_its_word_as_they_were(baked: Comparison) -> None:
    (numbers,) = (each["numbers"] for each in baked.record["lines"] if each["label"] == "textual-inversion")
    (drift,) = (each for each in numbers if each["metric"] == "drift")
    assert (drift["value"], drift["runs"]) == (0.0, [0.0, 0.0])


def test_the_page_shows_costs_and_plots(baked: Comparison) -> None:
    page = baked.page.read_text("utf-8")
    assert "What it cost" in page
    assert "peak memory" in page
    assert (baked.folder / "fit-drift.svg").is_file()
    assert page.count("<svg") == 3


def test_the_same_again_trains_and_draws_nothing(
    baked: Comparison, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "launch", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(bakeoff.api, "plan", lambda *_: pytest.fail("checked again"))
    monkeypatch.setattr("brushwork.generate.draw", lambda *_, **__: pytest.fail("drew again"))
    again = bw.compare(**wish(place, seeds=2), out=place / "baked")
    assert json.dumps(again.record) == json.dumps(baked.record)


@pytest.mark.thorough
def test_a_method_that_fails_is_said_and_the_others_go_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(plan: Path, out: Path) -> str | None:
        if out.name == "textual-inversion-0":
            return "its process was killed by signal 9 (out of memory?)"
        training.carry_out(plan, out)
        return None

    monkeypatch.setattr(training, "launch", launch)
    found = bw.compare(**wish(place, metrics=["saturation"]), out=tmp_path / "x")
    assert found.failed == {"textual-inversion": "its process was killed by signal 9 (out of memory?)"}
    assert [each["label"] for each in found.record["lines"]] == ["base", "low"]
    assert "textual-inversion failed" in found.page.read_text("utf-8")
    monkeypatch.setattr(training, "launch", lambda *_: "no")
    with pytest.raises(RunFailed, match="low: no"):
        bw.compare(**wish(place, methods={"low": {"preset": "lora"}}), out=tmp_path / "y")


@pytest.mark.parametrize(("changes", "said"), [
    ({"concept": None}, "textual-inversion: it learns the word <concept>, which no prompt has"),
    ({"concept": "blue ink"}, "no prompt has the words 'blue ink'"),
    ({"concept": "house"}, "no prompt has the words|in a control prompt"),
    ({"data": {"path": "nowhere"}}, "nowhere"),
    ({"methods": {"dpo": {}, "low": {"preset": "lora"}}}, "dpo: "),
    ({"methods": {"dreambooth": {"data": {"instance_token": "sks"}}}}, "dreambooth: .*'sks' is not in the captions"),
    ({"seconds": 2.0, "steps": None, "optimizer": {"lr_scheduler": "cosine"}}, "low: .*must know the last step"),
])  # fmt: skip
def test_what_cannot_run_is_said_before_anything_is_trained(
    changes: dict[str, Any], said: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "launch", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=said):
        bw.compare(**wish(place, **changes), out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.thorough
def test_rules_that_chose_different_batches_give_all_the_smallest(place: Path, tmp_path: Path) -> None:
    tree = wish(place, methods={"low": {"preset": "lora"}, "high": {"preset": "lora"}}, train={"device": "cpu"})
    asked = bakeoff.requested(tree)
    wanted = bakeoff._wanted(asked, {name: asked.config(name, 0) for name in asked.methods})
    plan = bakeoff._checked

    def chosen(request: Any, wanted: Any, train: dict[str, Any]) -> Any:
        plans = plan(request, wanted, train)
        if not train:  # as if the rules had chosen 8 for one of them and 4 for the other
            config = plans["high"].config
            smaller = config.train.model_copy(update={"train_batch_size": 4})
            other = bakeoff.api.Plan(config.model_copy(update={"train": smaller}), {}, [], plans["high"].forecast)
            return {**plans, "high": other}
        return plans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bakeoff, "_checked", chosen)
        folder, _ = bakeoff._planned(asked, wanted, lambda: tmp_path, None)
    batches = [bw.load_config(folder / "plans" / f"{name}-0.yaml").train.train_batch_size for name in ("low", "high")]
    assert batches == [4, 4]


def test_equal_seconds_end_each_run_by_its_time(place: Path, tmp_path: Path) -> None:
    methods = {"low": {"preset": "lora"}}
    tree = wish(place, methods=methods, steps=None, seconds=1e-6, metrics=["saturation"])
    found = bw.compare(**tree, out=tmp_path / "x")
    assert costs(found)["low"]["steps"] == 1
    assert "1e-06 seconds of steps" in found.page.read_text("utf-8")


@pytest.mark.thorough
@pytest.mark.slow
def test_killed_anywhere_the_same_request_ends_the_same(place: Path, tmp_path: Path, warm: Server) -> None:
    """Killed in the second method's training, then while pictures are drawn; then let finish."""
    tree = wish(place, methods={"low": {"preset": "lora"}, "full": {}}, metrics=["clip", "saturation"])
    whole = bw.compare(**tree, out=tmp_path / "whole")
    code = f"import compare_kill; compare_kill.live({tree!r}, {str(tmp_path / 'killed')!r}, 'END')"
    for end in ("training", "drawing"):
        done = warm.run(code.replace("END", end), cwd=tmp_path)
        assert done.code == -signal.SIGKILL, done.output
    killed = tmp_path / "killed"
    assert not (killed / "compare.json").exists()
    assert training.is_done(killed / "runs" / "full-0")
    done = warm.run(code.replace("END", ""), cwd=tmp_path)
    assert done.code == 0, done.output
    ended = json.loads((killed / "compare.json").read_text())
    told = [
        {
            (line["label"], each["metric"], each["prompt_set"]): each["value"]
            for line in record["lines"]
            for each in line["numbers"]
        }
        for record in (ended, whole.record)
    ]
    # Pictures drawn in another batch differ in their last bits; the weights below do not.
    assert told[0] == pytest.approx(told[1], abs=0.01)
    for run in ("low-0", "full-0"):
        weights = [
            {path.name: path.read_bytes() for path in (folder / "runs" / run / "weights").rglob("*.safetensors")}
            for folder in (killed, whole.folder)
        ]
        assert weights[0] == weights[1] != {}


@pytest.mark.thorough
@pytest.mark.slow
def test_a_real_process(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is its own, its failure is told, and it leaves stdout alone."""
    monkeypatch.undo()
    asked = bakeoff.requested(wish(place, methods={"low": {"preset": "lora"}}))
    plan = tmp_path / "plan.yaml"
    plan.write_text(to_yaml(asked.config("low", 0)))
    assert training.launch(plan, tmp_path / "low-0") is None
    record = runs.RunFolder(tmp_path / "low-0").record
    assert record["status"] == "trained"
    assert 50e6 < record["peak_memory_bytes"] < 4e9
    assert training.launch(plan, tmp_path / "low-0") is None  # finished: nothing to do
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "something").write_text("")
    reason = training.launch(plan, tmp_path / "other")
    assert reason is not None
    assert "exists and is not empty" in reason


def test_an_orphan_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(training, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(os, "kill", lambda _, number: sent.append(number))
    training._end_with(os.getppid() + 1)
    assert sent == [signal.SIGTERM]


def test_one_that_is_stopping_is_waited_for_and_one_that_stays_is_an_error(
    baked: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.RunFolder(baked.folder / "runs" / "low-0")
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with run.locked():
            held.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    monkeypatch.setattr(training, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(training, "PATIENCE", 0.0)
    with pytest.raises(UserError, match="is working on this run"):
        training._when_free(run)
    monkeypatch.setattr(training, "PATIENCE", 30.0)
    threading.Timer(0.1, let_go.set).start()
    training._when_free(run)
    assert let_go.is_set()
    holder.join()


def test_without_prompts_the_captions_are_drawn(place: Path) -> None:
    tree = wish(place, methods={"low": {"preset": "lora"}}, concept=None)
    del tree["validation"]["prompts"]
    asked = bakeoff.requested(tree)
    wanted = bakeoff._wanted(asked, {"low": asked.config("low", 0)})
    assert set(wanted.target) == {f"a {name}, {CONCEPT}" for name in ("cat", "dog", "fish", "owl")}
    asked = bakeoff.requested(tree | {"methods": {"textual-inversion": {}}})
    with pytest.raises(ConfigError, match="nothing to draw"):
        bakeoff._wanted(asked, {"textual-inversion": asked.config("textual-inversion", 0)})
