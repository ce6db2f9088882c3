"""A running server for tests: ``brushwork serve`` as users start it, on a free port, with a tiny model or mini.

with serving(tmp_path) as server:
    server.get("/healthz")
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

    import warm
    from warm import Process

PATIENCE = 300.0


@dataclass
class Server:
    """The process and its address."""

    process: subprocess.Popen[bytes] | Process
    url: str
    log: Path

    def client(self, **options: Any) -> httpx.Client:
        """Return a client that waits long enough."""
        return httpx.Client(base_url=self.url.split("?")[0], timeout=PATIENCE, **options)

    def submit(self, **job: Any) -> dict[str, Any]:
        """Ask for pictures and return the answer."""
        with self.client() as client:
            answer = client.post("/api/v1/jobs", json=job)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job: str) -> dict[str, Any]:
        """Return a job."""
        with self.client() as client:
            return dict(client.get(f"/api/v1/jobs/{job}").json())

    def wait(self, job: str, *, until: tuple[str, ...] = ("done", "failed", "cancelled")) -> dict[str, Any]:
        """Return a job once it is in one of some states."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            shown = self.job(job)
            if shown["state"] in until:
                return shown
            time.sleep(0.05)
        raise TimeoutError(shown)

    def draw(self, **job: Any) -> dict[str, Any]:
        """Ask for pictures and wait for them."""
        return self.wait(self.submit(**job)["id"])

    def kill(self) -> None:
        """End the server as a power cut would, its worker too."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(folder: Path, *options: str, warm: warm.Server | None = None) -> Iterator[Server]:
    """Start a server whose data lie in a folder, and end it; with ``warm`` it and its children are forked."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    command = ["-m", "brushwork", "serve", "--port", "0", "--json", "--device", "cpu", *options]
    places = ["--data", str(folder / "served"), "--runs", str(folder / "runs"), "--datasets", str(folder / "datasets")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    reads, writes = os.pipe()
    with open(reads, encoding="utf-8") as stdout:  # noqa: PTH123  (a descriptor)
        with log.open("a") as stderr, open(writes, "wb"):  # noqa: PTH123
            if warm is None:
                process: subprocess.Popen[bytes] | Process = subprocess.Popen(
                    [sys.executable, *command, *places], stdout=writes, stderr=stderr, env=environment
                )
            else:
                process = warm.start(
                    [*command, *places], cwd=Path.cwd(), env=environment, stdout=writes, stderr=stderr.fileno()
                )
        line = stdout.readline()
        assert line, log.read_text()
        try:
            yield Server(process, json.loads(line)["url"], log)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
