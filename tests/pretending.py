"""The server in this process, with a worker that only pretends to draw: for tests of everything around the drawing.

with pretending(tmp_path) as server:
    server.post("/api/v1/jobs", json={"kind": "txt2img", "prompt": "a dog"})
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from PIL import Image

from brushwork.serve.app import make_inner
from brushwork.serve.guard import Guard
from brushwork.serve.settings import ServeConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brushwork.serve.engine import Engine


def png(width: int = 8, height: int = 8) -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


class PretendedHand:
    """Stands where the engine's hold on its worker stands; each picture takes so many seconds, one after another."""

    pid = None

    def __init__(self, engine: Engine, seconds: float = 0.0) -> None:
        self.engine, self.seconds = engine, seconds
        self.drawn: list[str] = []
        """Pictures in the order in which they were finished."""
        self.cancelled: set[str] = set()
        self.alone: list[bool] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._brush = asyncio.Lock()

    async def send(self, command: dict[str, Any]) -> None:
        """Obey as the worker does."""
        if command["do"] == "cancel":
            self.cancelled.add(command["id"])
        elif command["do"] == "count":
            counted = {"tokens": 1, "chunks": 1, "limit": 75, "unread": []}
            self.engine._heard({"event": "counted", "id": command["question"]["id"], **counted})
        elif command["do"] == "draw":
            self.alone.append(command["picture"]["alone"])
            task = asyncio.get_running_loop().create_task(self._draw(command["picture"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _draw(self, picture: dict[str, Any]) -> None:
        async with self._brush:
            if picture["id"] in self.cancelled:
                return
            heard, about = self.engine._heard, {"id": picture["id"]}  # as Hand is given it
            heard({"event": "taken", **about})
            heard({"event": "began", "total": 2, **about})
            heard({"event": "step", "done": 1, "total": 2, "preview": "A" * 8000, **about})
            await asyncio.sleep(self.seconds)
            await asyncio.to_thread(Path(picture["out"]).write_bytes, png())
            self.drawn.append(picture["id"])
            text = f"{picture['draw']['prompt']}\nSteps: 1, Sampler: Euler, Seed: 1, Size: 8x8, Model: mini"
            heard({"event": "done", "infotext": text, "seconds": self.seconds, **about})

    async def end(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()


class Pretended:
    """A server that runs in a thread of this process."""

    def __init__(self, config: ServeConfig, seconds: float) -> None:
        self.config = config
        self.app = make_inner(config)
        self.engine: Engine = self.app.state.engine
        self.hand = PretendedHand(self.engine, seconds)
        self.engine.hand = self.hand  # type: ignore[assignment]
        options = uvicorn.Config(Guard(self.app, config), port=0, log_level="warning", access_log=False)
        self.server = uvicorn.Server(options)
        self.thread = threading.Thread(target=self._run)
        self.loop = asyncio.new_event_loop()

    def _run(self) -> None:
        self.loop.run_until_complete(self.server.serve())
        self.loop.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def client(self, **options: Any) -> httpx.Client:
        """Return a client."""
        return httpx.Client(base_url=self.url, timeout=120, **options)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask once."""
        with self.client() as client:
            return client.request(method, path, **options)

    def within(self, work: Callable[[], Any]) -> Any:
        """Return what a function returns that is called in the server's thread."""

        async def called() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(120)

    def until(self, true: Callable[[], Any], seconds: float = 120) -> None:
        """Wait until something is true in the server's thread."""
        import time

        end = time.monotonic() + seconds
        while not self.within(true):
            assert time.monotonic() < end, "it did not become true"
            time.sleep(0.02)


@contextlib.contextmanager
def pretending(folder: Path, *, seconds: float = 0.0, **changes: Any) -> Iterator[Pretended]:
    """Start a server whose data lie in a folder, and end it."""
    places = {"data": folder / "served", "runs": folder / "runs", "datasets": folder / "datasets"}
    running = Pretended(ServeConfig(**{**places, **changes}), seconds)
    running.thread.start()
    while not running.server.started and running.thread.is_alive():
        threading.Event().wait(0.01)
    assert running.server.started
    try:
        yield running
    finally:
        running.server.should_exit = True
        running.thread.join(120)
