"""Starts the other processes of a run on this machine: what `brushwork train --processes 2` does.

    with launched(2, sys.argv[1:]):             # this process is now number 0 of 2
        api.train(config)

No supervisor is needed: the processes notice one another's end by themselves (``brushwork.processes``).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from brushwork import processes
from brushwork.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENCE = 20.0
"""Seconds that a process which we started is given to end by itself."""


@contextlib.contextmanager
def launched(count: int | None, arguments: Sequence[str]) -> Iterator[None]:
    """Within this context this is the first of ``count`` processes; the others run ``brushwork`` with ``arguments``.

    Raises:
        UserError: A launcher has started another number of them.
    """
    started = processes.size()
    if started > 1 or count in (None, 1):
        if count not in (None, started):
            message = f"--processes {count}: {started} were started already, by a launcher. Leave --processes out."
            raise UserError(message)
        yield
        return
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        # More threads than cores slow one another down; torch reads this when it is imported.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count))),
    }
    kept = {name: os.environ.get(name) for name in (*shared, "RANK", "LOCAL_RANK")}
    command = [sys.executable, "-m", "brushwork", *arguments]
    others = [
        subprocess.Popen(  # noqa: S603  (our own command line)
            command,
            env={**os.environ, **shared, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.DEVNULL,
        )
        for number in range(1, count)
    ]
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    try:
        yield
    finally:
        processes.leave()
        for each in others:
            _end(each)
        for name in kept:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in kept.items() if value is not None})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a process end by itself, which it does when the main one has; if it does not, end it."""
    for act in (process.terminate, process.kill):
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            act()
    process.wait()
