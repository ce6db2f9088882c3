"""Many jobs and several clients: the queue is bounded and fair, and nothing is kept of what is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from pretending import pretending
from served import serving

from brushwork.serve import surroundings
from brushwork.serve.engine import MEMORY
from brushwork.serve.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from served import Server

JOB: dict[str, Any] = {"kind": "txt2img", "prompt": "a dog", "steps": 2}
QUICK: dict[str, Any] = {**JOB, "seed": 5}
MANY = 1000
GROWTH = 40 << 20
"""Bytes that a process may be larger after a soak: what Python's allocator does not give back."""


def test_a_thousand_jobs_are_taken_and_later_ones_told_to_come_back(tmp_path: Path) -> None:
    with pretending(tmp_path, limits=Limits(queued=MANY), seconds=0.001) as server, server.client() as client:
        server.within(lambda: setattr(server.hand, "seconds", 3600))
        waiting = {client.post("/api/v1/jobs", json=JOB).json()["id"] for _ in range(MANY)}
        taken = server.within(lambda: len(server.engine.flying))
        for _ in range(taken):
            assert client.post("/api/v1/jobs", json=JOB).status_code == 202
        late = client.post("/api/v1/jobs", json=JOB)
        assert (late.status_code, late.headers["retry-after"]) == (429, "5")
        assert "1000 jobs wait already, which is the limit" in late.json()["error"]["message"]
        assert client.get("/readyz").status_code == 503
        for face, body in (("/sdapi/v1/txt2img", {}), ("/v1/images/generations", {"prompt": "a"})):
            assert client.post(face, json=body).status_code == 429
        for job in waiting:
            assert client.delete(f"/api/v1/jobs/{job}").json()["cancelled"]
        assert client.get("/readyz").status_code == 200
        assert client.post("/api/v1/jobs", json=JOB).status_code == 202
        assert server.within(lambda: len(server.engine.live)) <= MEMORY + 2 * taken + 2


def test_two_clients_take_turns_however_many_jobs_one_of_them_has(tmp_path: Path) -> None:
    with pretending(tmp_path, seconds=0.01, together=1) as server:
        greedy = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=server.url, transport=greedy) as first, server.client() as second:
            of_first = [first.post("/api/v1/jobs", json={**JOB, "n": 3}).json() for _ in range(20)]
            of_second = [second.post("/api/v1/jobs", json=JOB).json() for _ in range(5)]
            assert [each["position"] for each in of_second] == sorted(each["position"] for each in of_second)
            last = of_second[-1]["pictures"][0]
            server.until(lambda: last in server.hand.drawn)
            drawn = server.within(lambda: list(server.hand.drawn))
        theirs = {picture for job in of_first for picture in job["pictures"]}
        since = drawn.index(of_second[0]["pictures"][0])
        between = [each for each in drawn[since : drawn.index(last)] if each in theirs]
        assert len(between) <= 5  # one of the other's between two of ours, not all sixty
    assert len(theirs) == 60


def test_previews_of_long_jobs_are_not_kept(tmp_path: Path) -> None:
    with pretending(tmp_path) as server:
        job = server.ask("POST", "/api/v1/jobs", json={**JOB, "n": 50}).json()["id"]
        live = server.within(lambda: server.engine.live[job])
        server.until(live.over.is_set)
        assert len(live.events) > 50
        assert not any("preview" in each.data for each in live.events)
        assert live.preview is None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as running:
        yield running


@pytest.mark.thorough
@pytest.mark.slow
def test_a_picture_that_kills_its_worker_twice_fails_and_the_next_job_succeeds(server: Server) -> None:
    """Also: what was typed and where things lie is in no log."""
    job = server.submit(**{**QUICK, "steps": 150, "prompt": "a secret prompt"})["id"]
    for deaths in (0, 1):
        wait_for(lambda deaths=deaths: count(server, "worker_starts_total") == deaths + 1)
        server.wait(job, until=("running",))
        wait_for(lambda: progressed(server, job))
        for child in psutil.Process(server.process.pid).children():
            assert child.environ().items() >= surroundings.QUIET.items()
            child.kill()
        wait_for(lambda deaths=deaths: count(server, "worker_deaths_total") == deaths + 1)
    shown = server.wait(job)
    assert (shown["state"], shown["error"]["type"]) == ("failed", "worker_died")
    assert "ended twice at this picture: it was ended by SIGKILL" in shown["error"]["message"]
    assert any("tried once more" in note for note in shown["notes"])
    assert server.draw(**QUICK)["state"] == "done"
    assert "secret" not in server.log.read_text()


def progressed(server: Server, job: str) -> bool:
    shown = server.job(job)
    return shown["state"] == "running" and shown["progress"] > 0


def count(server: Server, name: str) -> float:
    with server.client() as client:
        lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines())
    return float(lines[f"brushwork_{name}"])


def wait_for(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.05)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_soak_leaves_server_and_worker_as_large_as_they_were(server: Server) -> None:
    def sizes() -> list[int]:
        own = psutil.Process(server.process.pid)
        return [each.memory_info().rss for each in (own, *own.children())]

    def soak(seconds: float) -> int:
        end, done = time.monotonic() + seconds, 0
        with server.client() as client:
            while time.monotonic() < end:
                jobs = [client.post("/api/v1/jobs", json={**QUICK, "n": 4}).json()["id"] for _ in range(20)]
                for job in jobs[::2]:
                    client.delete(f"/api/v1/jobs/{job}")
                for job in jobs[1::2]:
                    done += len(server.wait(job)["pictures"])
        return done

    assert soak(8) > 0  # everything that is loaded once is loaded
    before = sizes()
    assert soak(20) > 0
    after = sizes()
    assert len(before) == len(after) == 2
    assert max(late - early for early, late in zip(before, after, strict=True)) < GROWTH, (before, after)
