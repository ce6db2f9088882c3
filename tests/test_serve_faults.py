"""What goes wrong around the drawing: full disks, clients that go away, processes that are killed, memory that ends."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pretending import png, pretending
from served import serving

from brushwork.serve import store, surroundings, training
from brushwork.serve.engine import Engine
from brushwork.serve.jobs import TextToImage
from brushwork.serve.settings import ServeConfig

if TYPE_CHECKING:
    from pretending import Pretended
    from warm import Server as Warm

JOB: dict[str, Any] = {"kind": "txt2img", "prompt": "a secret dog"}


def fill(server: Pretended, *, pages: int) -> None:
    """Let the history have so many pages more, as on a disk with so much space left; none: it is full."""
    database: sqlite3.Connection = server.engine.store._database
    server.within(lambda: database.execute("pragma wal_checkpoint(truncate)"))
    (there,) = server.within(lambda: database.execute("pragma page_count").fetchone())
    server.within(lambda: database.execute(f"pragma max_page_count = {there + pages}").fetchall())


def test_on_a_full_disk_a_job_is_refused_and_later_ones_succeed(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        long = {**JOB, "prompt": "dog " * 1500, "n": 20}
        fill(server, pages=0)
        refused = server.ask("POST", "/api/v1/jobs", json=long)
        assert (refused.status_code, refused.json()["error"]["type"]) == (507, "disk_full")
        assert "disk of the server is full" in refused.json()["error"]["message"]
        assert server.ask("GET", "/api/v1/jobs").json() == []
        assert server.ask("GET", "/healthz").status_code == 200
        fill(server, pages=10_000)
        job = server.ask("POST", "/api/v1/jobs", json=long).json()["id"]
        server.until(server.engine.live[job].over.is_set)
        assert server.ask("GET", f"/api/v1/jobs/{job}").json()["state"] == "done"


def test_a_job_whose_picture_cannot_be_written_down_fails_and_its_end_is_written_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise store.DiskFull(store.FULL)

    with pretending(tmp_path) as server:
        monkeypatch.setattr(store._Transaction, "__enter__", full)
        monkeypatch.setattr(server.engine.store, "add_job", lambda *_: ["a" * 32])
        live = server.within(lambda: server.engine.submit(TextToImage(prompt="a dog"), "me"))
        server.until(live.over.is_set)
        assert (live.state, live.events[-1].data["error"]["type"]) == ("failed", "disk_full")
        monkeypatch.undo()
        job = server.ask("POST", "/api/v1/jobs", json=JOB).json()["id"]
        server.until(server.engine.live[job].over.is_set)
        assert server.engine.store._unwritten == {}
    assert not list((tmp_path / "served" / "images").glob("a*"))


def test_how_a_job_ended_is_known_before_it_can_be_written(tmp_path: Path) -> None:
    history = store.Store(tmp_path)
    planned = TextToImage(prompt="a dog").pictures(lambda: 0)
    history.add_job("j", "txt2img", "me", {}, planned)
    writer = sqlite3.connect(tmp_path / "history.sqlite")
    writer.execute("pragma max_page_count = 1")
    writer.close()
    history._database.execute("pragma query_only = on")  # SQLite's word for it: attempt to write a readonly database
    history.finish("j", "failed", {"type": "x", "message": "y"}, ["a note"])
    job = history.job("j")
    assert job is not None
    assert (job.state, job.error, job.notes) == ("failed", {"type": "x", "message": "y"}, ["a note"])
    assert [each.state for each in job.pictures] == ["failed"]
    history._database.execute("pragma query_only = off")
    history.close()
    again = store.Store(tmp_path)
    assert again.recover() == 0
    written = again.job("j")
    assert written is not None
    assert written.state == "failed"
    again.close()


def test_an_upload_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with pretending(tmp_path) as server:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", full)
            for path in ("/api/v1/images", "/api/v1/datasets/mine"):
                answer = server.ask("POST", path, files={"file": ("x.png", png())})
                assert (answer.status_code, answer.json()["error"]["type"]) == (507, "disk_full"), answer.text
                assert str(tmp_path) not in answer.text
        assert list((tmp_path / "served" / "images").iterdir()) == []
        assert list((tmp_path / "datasets" / "mine").iterdir()) == []
        assert server.ask("POST", "/api/v1/images", files={"file": ("x.png", png())}).status_code == 201


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/txt2img", {"prompt": "a dog"}),
        ("/v1/images/generations", {"prompt": "a dog"}),
        ("/v1/images/generations", {"prompt": "a dog", "stream": True}),
    ],
)
def test_a_client_that_goes_away_takes_its_job_along(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    with pretending(tmp_path, seconds=600) as server:
        connection = asked(server, "POST", path, json.dumps(body).encode())
        server.until(lambda: any(each.state == "running" for each in server.engine.live.values()))
        connection.close()
        (live,) = server.engine.live.values()
        server.until(live.over.is_set)
        assert live.state == "cancelled"
        assert len(server.hand.cancelled) == 1
        assert server.engine.flying == {}


def asked(server: Pretended, method: str, path: str, body: bytes = b"") -> socket.socket:
    """Send a request and return the connection without waiting for the answer."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_clients_of_event_streams_that_go_away_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").write_text("base: mini\ndata: {path: mascot}\n")
    with pretending(tmp_path, seconds=600) as server:
        job = server.ask("POST", "/api/v1/jobs", json=JOB).json()["id"]
        server.until(lambda: server.engine.live[job].state == "running")
        before = server.within(lambda: len(asyncio.all_tasks()))
        for path in (f"/api/v1/jobs/{job}/events", "/api/v1/runs/mine/events"):
            connections = [asked(server, "GET", path) for _ in range(20)]
            for each in connections:
                assert b"200 OK" in each.recv(4000)
            assert server.within(lambda: len(asyncio.all_tasks())) >= before + 20
            for each in connections:
                each.close()
            server.until(lambda: len(asyncio.all_tasks()) <= before)
        assert not server.engine.live[job].over.is_set()  # who only watches ends nothing
        server.ask("DELETE", f"/api/v1/jobs/{job}")


class Deaf:
    """A hand whose worker says nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bool]] = []

    async def send(self, command: dict[str, Any]) -> None:
        if command["do"] == "draw":
            self.sent.append((command["picture"]["id"], command["picture"]["alone"]))

    async def end(self) -> None:
        pass


def test_only_the_picture_that_a_worker_died_of_twice_fails(tmp_path: Path) -> None:
    async def go() -> None:
        engine = Engine(ServeConfig(data=tmp_path, runs=tmp_path / "runs", together=2))
        engine.hand = hand = Deaf()  # type: ignore[assignment]
        await engine.start()
        lives = [engine.submit(TextToImage(prompt="a dog", seed=0), f"client {n}") for n in range(3)]
        first, second, third = (each.pictures[0] for each in lives)
        await settle()
        assert hand.sent == [(first, False), (second, False), (third, False)]
        for each in (first, second):
            engine._heard({"event": "taken", "id": each})
        engine._died("it was ended by SIGKILL")
        await settle()
        assert hand.sent[3:] == [(first, True), (second, True), (third, False)]
        engine._heard({"event": "taken", "id": first})
        engine._died("it was ended by SIGKILL")
        await settle()
        assert hand.sent[6:] == [(second, True), (third, False)]
        assert [each.state for each in lives] == ["failed", "queued", "queued"]
        failed = engine.store.job(lives[0].id)
        assert failed is not None
        assert failed.error is not None
        assert (failed.error["type"], len(failed.notes)) == ("worker_died", 1)
        assert "ended twice at this picture: it was ended by SIGKILL" in failed.error["message"]
        engine._died("it ended with exit code 1")  # at once, before it takes anything
        engine._died("it ended with exit code 1")
        assert all(each.over.is_set() for each in lives)
        assert engine.flying == {}
        assert engine.retried == set()
        await engine.stop()

    asyncio.run(go())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_worker_that_cannot_be_started_fails_the_job_and_not_the_queue(tmp_path: Path) -> None:
    class Broken(Deaf):
        async def send(self, command: dict[str, Any]) -> None:
            del command
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    async def go() -> None:
        engine = Engine(ServeConfig(data=tmp_path, runs=tmp_path / "runs"))
        engine.hand = Broken()  # type: ignore[assignment]
        await engine.start()
        for _ in range(2):
            live = engine.submit(TextToImage(prompt="a dog"), "me")
            await asyncio.wait_for(live.over.wait(), 120)
            assert live.events[-1].data["error"]["type"] == "worker_failed"
        await engine.stop()

    asyncio.run(go())


def test_a_training_process_that_is_killed_is_shown_as_failed_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\n"
        'for last; do previous="$one"; one="$last"; [ "$previous" = --out ] && out="$last"; done\n'
        'mkdir -p "$out"; printf "base: mini\\ndata: {path: mascot}\\n" > "$out/config.yaml"\n'
        'printf \'{"status": "running"}\' > "$out/run.json"\nexec sleep 60\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(training, "sys", SimpleNamespace(executable=str(program)))
    with pretending(tmp_path) as server:
        name = server.ask("POST", "/api/v1/runs", json={"data": "mascot", "steps": 4}).json()["name"]

        def shown() -> Any:
            return server.ask("GET", f"/api/v1/runs/{name}").json()

        for _ in range(2):
            server.until((tmp_path / "runs" / name / "run.json").is_file)
            assert shown()["status"] == "running"
            process = server.engine.trainings.processes[name]
            os.kill(process.pid, signal.SIGKILL)
            server.until(lambda process=process: process.returncode is not None)
            assert shown()["status"] == "failed"
            assert "ended by SIGKILL" in shown()["error"]
            assert server.ask("POST", f"/api/v1/runs/{name}/stop").status_code == 422
            assert server.ask("POST", f"/api/v1/runs/{name}/resume").status_code == 200
        os.kill(server.engine.trainings.processes[name].pid, signal.SIGKILL)


def test_a_run_of_a_server_that_is_gone_is_running_while_its_process_holds_the_lock(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("base: mini\ndata: {path: mascot}\n")
    (run / "run.json").write_text('{"status": "running"}')
    with pretending(tmp_path) as server:
        with (run / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert server.ask("GET", "/api/v1/runs/mine").json()["status"] == "running"
        gone = server.ask("GET", "/api/v1/runs/mine").json()
        assert (gone["status"], "gone" in gone["error"]) == ("failed", True)


def test_neither_telemetry_nor_token_reaches_a_process_that_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(surroundings.TOKEN, "a-token-that-nobody-guesses")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    environment = surroundings.for_children()
    assert surroundings.TOKEN not in environment
    assert environment.items() >= surroundings.QUIET.items()
    said = subprocess.run(
        [sys.executable, "-c", "from huggingface_hub import constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "True"


def test_what_a_worker_says_of_a_file_reaches_the_client_without_its_folder(tmp_path: Path) -> None:
    async def go() -> None:
        engine = Engine(ServeConfig(data=tmp_path, runs=tmp_path / "runs", models=(tmp_path,)))
        engine.hand = Deaf()  # type: ignore[assignment]
        await engine.start()
        live = engine.submit(TextToImage(prompt="a dog"), "me")
        await settle()
        message = f"{tmp_path}/ink.safetensors: 3 of 4 keys fit no layer of /usr/models/base"
        engine._heard({"event": "failed", "id": live.pictures[0], "type": "ModelError", "message": message})
        job = engine.store.job(live.id)
        assert job is not None
        assert job.error is not None
        assert job.error["message"] == "ink.safetensors: 3 of 4 keys fit no layer of base"
        await engine.stop()

    asyncio.run(go())


@pytest.mark.thorough
@pytest.mark.slow
def test_a_real_run_that_is_killed_goes_on_where_its_checkpoint_was(tmp_path: Path, warm: Warm) -> None:
    settings = {
        "train.checkpointing_steps": 2, "validation.prompts": ["a teddy bear"], "validation.images_per_prompt": 1,
        "validation.num_inference_steps": 2, "train.validation_steps": 1000,
    }  # fmt: skip
    with serving(tmp_path, warm=warm) as server, server.client() as client:
        asked = {"data": "mascot", "steps": 20, "settings": settings}
        name = client.post("/api/v1/runs", json=asked).json()["name"]
        run = tmp_path / "runs" / name
        wait_for(lambda: any(each.name.isdigit() for each in (run / "checkpoints").glob("*")))
        trainers = [each for each in psutil.Process(server.process.pid).children() if "train" in each.cmdline()]
        assert len(trainers) == 1
        trainers[0].kill()
        wait_for(lambda: client.get(f"/api/v1/runs/{name}").json()["status"] == "failed")
        assert "SIGKILL" in client.get(f"/api/v1/runs/{name}").json()["error"]
        assert client.post(f"/api/v1/runs/{name}/resume").status_code == 200
        wait_for(lambda: client.get(f"/api/v1/runs/{name}").json()["step"] == 20)
        assert client.post(f"/api/v1/runs/{name}/stop").status_code == 200
        steps = [each["index"] for each in client.get(f"/api/v1/runs/{name}/steps").json()]
        assert steps == list(range(1, 21))


def wait_for(true: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.05)
