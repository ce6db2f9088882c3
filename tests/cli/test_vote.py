"""The commands vote and votes: from models to a ballot, from votes to results and to data that --method dpo takes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from ballots import answered, hand_in, make_ballot, picture_folders
from synthetic import TARGET, make_run
from tiny import make_tiny_sd

from brushwork.cli import run
from brushwork.voting import ballot

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = ("a cat", "a dog", "a fish")


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_from_models_to_votes_to_pairs_to_training(
    tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_tiny_sd(tmp_path / "other-sd", seed=1)
    prompts, place = tmp_path / "prompts.txt", tmp_path / "ballot"
    prompts.write_text("\n".join(PROMPTS), "utf-8")
    asked = ["vote", tiny_sd, other, "--prompts", prompts, "--steps", 1, "--n", 2, "--seed", 5, "--size", "32x32"]
    made = told(capsys, *asked, "--out", place, "--bundle", tmp_path / "vote.html")
    assert (made["pairs"], made["items"]) == (6, [str(tiny_sd), str(other)])
    folder = ballot.read(place)
    assert sorted({pair.prompt for pair in folder.ballot.pairs}) == sorted(PROMPTS)
    drawn = json.loads((place / "drawn" / "0" / "pictures.json").read_text("utf-8"))["pictures"]
    assert drawn == json.loads((place / "drawn" / "1" / "pictures.json").read_text("utf-8"))["pictures"]
    assert [each["seed"] for each in drawn] == [5, 6, 7, 8, 9, 10]
    assert folder.key.made["drawn"][0]["steps"] == 1

    hand_in(folder, "ann", 0, answered(folder, 0, lambda _shown, _question: 1))
    hand_in(folder, "ben", 1, answered(folder, 1, lambda _shown, _question: 1), tmp_path / "ben.json")
    counts = told(capsys, "votes", "tally", place, tmp_path / "ben.json")
    assert [each["meetings"][0]["wins_other"] for each in counts["questions"]] == [12, 12, 12]
    assert (place / "results.html").is_file()
    stored = json.loads((place / "results.json").read_text("utf-8"))
    assert {"report": str(place / "results.html"), **stored} == counts
    pairs = told(capsys, "votes", "pairs", place, tmp_path / "ben.json", "--out", tmp_path / "pairs")
    assert (pairs["pairs"], pairs["votes"]) == (6, 12)

    train = ["train", "--method", "dpo", "--base", tiny_sd, "--data", tmp_path / "pairs", "--steps", 2]
    options = ["method.rank=2", "train.train_batch_size=2", "validation.samples_during_training=0"]
    options += ["validation.num_inference_steps=1", "validation.images_per_prompt=1", "validation.loss_images=1"]
    assert run([*map(str, [*train, "--out", tmp_path / "run"]), *options]) == 0
    steps = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text("utf-8").splitlines()]
    assert len(steps) == 2
    assert "implicit_accuracy" in steps[-1]["numbers"]


def test_a_run_is_voted_on_by_the_pictures_that_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = make_run(tmp_path / "run", seeds=2)
    finished.weights.mkdir(exist_ok=True)
    monkeypatch.setattr("brushwork.evaluate.draw", lambda *_: None)
    made = told(capsys, "vote", finished.path, "--out", tmp_path / "ballot", "--bundle", tmp_path / "bundle")
    folder = ballot.read(tmp_path / "ballot")
    assert (made["items"], made["pairs"]) == (["base", "tuned"], 2 * len(TARGET))
    assert {pair.prompt for pair in folder.ballot.pairs} == set(TARGET)
    assert len(folder.ballot.references) == 6
    assert folder.ballot.questions["style"] == ballot.LIKE_THE_EXAMPLES
    assert (tmp_path / "bundle" / "index.html").is_file()


def test_folders_are_voted_on_as_they_are_with_few_pairs_and_one_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = picture_folders(tmp_path / "pictures", models=3)
    options = ["--questions", "overall", "--pairs", 6, "--repeats", 0, "--out", tmp_path / "ballot"]
    made = told(capsys, "vote", *folders, *options, "--bundle", tmp_path / "vote.html")
    assert (made["pairs"], made["questions"], made["items"]) == (6, ["overall"], ["base", "tuned", "other"])
    assert len(ballot.read(tmp_path / "ballot").ballot.sheets[0]) == 6


def test_what_makes_no_vote_is_refused(tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = picture_folders(tmp_path / "pictures")
    done = make_ballot(tmp_path / "done")
    shutil.copytree(done.path, tmp_path / "broken")
    (tmp_path / "broken" / ballot.KEY).unlink()
    for arguments, message in [
        (["vote", tiny_sd], "alone has nothing to be compared with"),
        (["vote", tiny_sd, tiny_sd, "--prompts", "target"], "is named twice"),
        (["vote", *folders, "--steps", "3"], "--steps cannot apply"),
        (["vote", *folders, "--out", done.path], "is a ballot already"),
        (["vote", *folders, "--out", folders[0]], "exists and is not empty"),
        (["vote", done.path, "--pairs", "3"], "--pairs cannot apply"),
        (["vote", done.path, tiny_sd], "cannot apply"),
        (["vote", tmp_path / "broken"], "is no ballot"),
        (["vote", *folders, "--questions", "overall", "--references", folders[0]], "not among the questions"),
        (["vote", *folders, "--references", tmp_path / "nowhere"], "no folder with pictures"),
        (["vote", tiny_sd, "mini", "--prompts", "targets"], "Did you mean target"),
        (["votes", "tally", tmp_path], "is no ballot"),
        (["votes", "tally", done.path], "no answers yet"),
        (["votes", "tally", done.path, "--detect", "0.5"], "no answers yet"),
    ]:
        assert run([*map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "ballots").exists()


def test_serving_says_where_and_ends_with_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from brushwork.voting.serving import Server

    def interrupted(*_: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    made = told(capsys, "vote", make_ballot(tmp_path).path)
    assert made["url"].startswith("http://127.0.0.1:")
    assert made["hash"] == ballot.read(tmp_path / "ballot").ballot.hash
