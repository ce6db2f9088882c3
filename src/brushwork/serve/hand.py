"""The engine's hold on its worker process: started when it is needed, heard by lines, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from brushwork.serve import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from brushwork.serve.easel import EaselConfig

LINE = 16 << 20
"""Bytes of the longest line (a preview)."""
LAST_WORDS = 1.0
"""Seconds that what a worker printed last may take to arrive."""
GRACE = 5.0
"""Seconds that the worker has to end by itself."""


class Hand:
    """Starts the worker, sends it commands, and calls back with what it says and with how it ended."""

    def __init__(
        self,
        config: EaselConfig,
        heard: Callable[[dict[str, Any]], None],
        died: Callable[[str], None],
        hide: Callable[[str], str] = str,
    ) -> None:
        self.config, self.heard, self.died, self.hide = config, heard, died, hide
        self.process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ending = False
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self.process.pid if self.process is not None else None

    async def send(self, command: dict[str, Any]) -> None:
        """Send a command, starting the worker if there is none. A worker that dies meanwhile is told by ``died``."""
        async with self._starting:
            if self.process is None:
                await self._start()
            assert self.process is not None and self.process.stdin is not None  # noqa: PT018
            with contextlib.suppress(ConnectionError):
                self.process.stdin.write(json.dumps(command).encode() + b"\n")
                await self.process.stdin.drain()

    async def _start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        arguments = ("-m", "brushwork.serve.worker", self.config.model_dump_json())
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, limit=LINE, start_new_session=True,
            env=surroundings.for_children(),
        )  # fmt: skip
        self._listening = asyncio.create_task(self._listen(self.process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018
        heard_all = False
        relaying = asyncio.create_task(self.relay(process.stderr))
        try:
            while line := await process.stdout.readline():
                self.heard(json.loads(line))
            heard_all = True
        finally:
            if not heard_all:  # a fault of ours, and nobody hears this worker any more
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            code = await process.wait()
            await asyncio.wait({relaying}, timeout=LAST_WORDS)
            relaying.cancel()  # whatever the worker started may hold the line open
            self.process = None
            if not self._ending:
                self.died(_how(code))

    async def relay(self, said: asyncio.StreamReader) -> None:
        """Put what a worker prints into the server's log, without the folders of this machine."""
        while True:
            try:
                line = await said.readline()
            except ValueError:
                continue  # a line beyond all measure, which is dropped
            if not line:
                return
            sys.stderr.write(self.hide(line.decode(errors="replace")))
            sys.stderr.flush()

    async def end(self) -> None:
        """Let the worker end, and end it if it does not."""
        self._ending = True
        process = self.process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), GRACE)
            except asyncio.TimeoutError:
                process.kill()
        if self._listening is not None:
            await self._listening


def _how(code: int) -> str:
    """Return how a process ended, in words."""
    if code >= 0:
        return f"it ended with exit code {code}; the server's log has its last words"
    name = signal.Signals(-code).name
    hint = "; the system kills processes when memory runs out" if name == "SIGKILL" else ""
    return f"it was ended by {name}{hint}"
