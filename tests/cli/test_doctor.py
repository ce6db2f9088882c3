"""``brushwork doctor`` says what it found and what to do about it, and never hangs."""

from __future__ import annotations

import importlib.metadata
import json
import threading
import time
from typing import TYPE_CHECKING

from huggingface_hub import constants

from brushwork import families, hub
from brushwork.cli import doctor, run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    run(["doctor", "--json"])
    return {each["check"]: each for each in json.loads(capsys.readouterr().out)}


def test_it_reports_versions_memory_cores_and_places(capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)
    assert found["torch"]["found"] == importlib.metadata.version("torch")
    assert "GiB free" in found["runs"]["found"]
    assert int(found["cores"]["found"]) >= 1
    assert "free" in found["memory"]["found"]


def test_every_finding_that_is_not_ok_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert [each for each in findings(capsys).values() if each["status"] != "ok" and not each["advice"]] == []


def test_missing_assets_are_a_problem_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(families, "ASSETS", tmp_path)
    assert run(["doctor"]) == 1
    assert "FAIL  assets" in capsys.readouterr().out


def test_offline_mode_is_said_and_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert "offline mode" in findings(capsys)["hub"]["found"]


def test_a_hub_that_refuses_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert doctor._hub().status == "note"


def test_a_hub_that_never_answers_does_not_hang_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    let_go = threading.Event()
    monkeypatch.setattr(hub, "_ask", lambda address, answers: let_go.wait(600))  # noqa: ARG005
    began = time.monotonic()
    assert "no answer within 0.2 s" in doctor._hub().found
    assert time.monotonic() - began < 300
    let_go.set()


def test_a_place_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    problems = [each for each in doctor._places() if each.status == "problem"]
    assert {each.check for each in problems} == {"runs", "cache", "hub cache"}
