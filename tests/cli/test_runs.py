"""``brushwork runs``: what is there, and what one run was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brushwork.cli import run
from brushwork.config import load
from brushwork.runs import RunFolder


@pytest.fixture
def made() -> RunFolder:
    folder = RunFolder.create(load({"data": "photos/"}), Path("runs") / "cats")
    folder.update(status="done", total_steps=2, base={"hash": "abc"})
    for index in (1, 2):
        folder.log({"index": index, "loss": 1 / index})
    return folder


def test_runs_are_listed_with_what_they_are(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "list"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "status", "method", "base", "data", "steps", "loss"]
    assert line.split() == [str(made.path), "done", "lora", "mini", "photos/", "2", "0.5"]


def test_no_runs_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "list"]) == 0
    caught = capsys.readouterr()
    assert caught.out == ""
    assert "brushwork demo" in caught.err
    assert run(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("name", ["cats", "runs/cats"])
def test_a_run_is_shown_by_its_path_or_its_name_below_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", name]) == 0
    shown = capsys.readouterr().out
    assert "done" in shown
    assert "adam_weight_decay: 0.01" in shown


def test_json_holds_record_metrics_and_configuration(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "show", str(made.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["record"] == made.record
    assert shown["metrics"] == []
    assert load(shown["config"]) == made.config
