"""One run trains at a time; the others wait, in order, and a restart of the server finds them."""

from __future__ import annotations

import asyncio
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from pretending import pretending

from brushwork.errors import UserError
from brushwork.serve import training
from brushwork.serve.catalogue import Catalogue
from brushwork.serve.datasets import Datasets
from brushwork.serve.settings import Limits, ServeConfig
from brushwork.serve.training import Trainings

if TYPE_CHECKING:
    from pathlib import Path

ASKED = training.TrainingAsked(data="mascot", steps=1)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a shell stand in for the process that trains: it goes on until a file is there, and notes who began."""
    program, go = tmp_path / "python", tmp_path / "go"
    program.write_text(
        f'#!/bin/sh\nwhile [ "$1" ]; do out=$1; shift; [ "$out" = --out ] && break; done\n'
        f'basename "$1" >> {tmp_path}/began\nwhile [ ! -e {go} ]; do sleep 0.05; done\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(training, "sys", SimpleNamespace(executable=str(program)))
    monkeypatch.setattr(training, "LOOK_EVERY", 0.05)
    return go


async def until(true: object) -> None:
    for _ in range(400):
        if true():  # type: ignore[operator]
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def made(tmp_path: Path, **limits: int) -> Trainings:
    config = ServeConfig(
        data=tmp_path / "served", runs=tmp_path / "runs", datasets=tmp_path / "sets", limits=Limits(**limits)
    )
    return Trainings(config, Catalogue(config), Datasets(config))


def test_runs_wait_in_order_leave_and_go_on_after_a_restart(tmp_path: Path, slow: Path) -> None:
    def began() -> list[str]:
        return (tmp_path / "began").read_text().split()

    async def first() -> list[str]:
        trainings = made(tmp_path)
        names = [await trainings.start(ASKED.model_copy(update={"name": each})) for each in ("a", "b", "c", "d")]
        assert [trainings.position(each) for each in names] == [0, 1, 2, 3]
        shown = {each["name"]: each for each in trainings.unborn()}
        assert (shown["a"]["status"], shown["c"]["status"], shown["c"]["position"]) == ("preparing", "queued", 2)
        with pytest.raises(UserError, match="a run b waits already"):
            await trainings.start(ASKED.model_copy(update={"name": "b"}))
        await trainings.stop("b")
        assert [trainings.position(each) for each in ("c", "d")] == [1, 2]
        await asyncio.to_thread(slow.touch)
        await until(lambda: "d" in trainings.processes and not trainings.busy())
        await trainings.end()
        return began()

    async def again() -> list[str]:
        before = made(tmp_path)
        before.turns.add("e", ["--out", "e"])
        trainings = made(tmp_path)
        await trainings.begin()
        await until(lambda: "e" in trainings.processes and trainings.processes["e"].returncode is not None)
        await trainings.end()
        return began()

    assert asyncio.run(first()) == ["a", "c", "d"]
    assert asyncio.run(again()) == ["a", "c", "d", "e"]


def test_a_request_beyond_the_queue_is_told_to_come_back(tmp_path: Path, slow: Path) -> None:
    with pretending(tmp_path, limits=Limits(trainings=1)) as server:
        body = {"data": "mascot", "steps": 1}
        answers = [server.ask("POST", "/api/v1/runs", json=body) for _ in range(3)]
        assert [each.status_code for each in answers] == [201, 201, 429]
        assert [each.json()["position"] for each in answers[:2]] == [0, 1]
        assert "1 training runs wait already" in answers[2].json()["error"]["message"]
        waiting = answers[1].json()["name"]
        with server.client() as client, client.stream("GET", f"/api/v1/runs/{waiting}/events") as events:
            told = next(line for line in events.iter_lines() if line.startswith("data:"))
        assert '"status": "queued", "position": 1' in told
        assert server.ask("POST", f"/api/v1/runs/{waiting}/stop").status_code == 200
        assert waiting not in server.ask("GET", "/api/v1/runs").text
        slow.touch()
        server.until(lambda: not server.engine.trainings.busy())
