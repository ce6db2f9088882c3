"""A process that has imported torch and diffusers once, and forks whoever needs them: a fresh process in milliseconds.

    with Server(folder) as server:
        done = server.run("from brushwork.cli import run; raise SystemExit(run(['doctor']))", cwd=..., env=...)
        done.code, done.output                  # the code is negative for a signal, as subprocess has it

``server.command`` is a folder for PATH whose ``brushwork`` does the same from a shell. What runs is a process of its
own, with its own folder, environment and files; only its imports are there already (six seconds of CPU time or so).
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

PATIENCE = 300.0
IMPORTED = (
    "brushwork.api",
    "brushwork.evaluate",
    "brushwork.models",
    "brushwork.train",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "peft",
    "pytest",
    "transformers.models.clip.modeling_clip",
)
COMMAND = """#!PYTHON -IS
import json, os, socket, sys
code = f"import sys; sys.argv = {['brushwork', *sys.argv[1:]]!r}; from brushwork.cli import main; main()"
request = json.dumps({"code": code, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect("ADDRESS")
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(int(server.recv(16)))
"""


@dataclass(frozen=True)
class Done:
    """How a process ended, and all that it said on both channels."""

    code: int
    output: str


class Server:
    """The process, from ``with`` to its end; it ends too when we do."""

    def __init__(self, folder: Path) -> None:
        self.address, self.command = str(folder / "server"), folder / "bin"
        self.command.mkdir()
        script = self.command / "brushwork"
        script.write_text(COMMAND.replace("PYTHON", sys.executable).replace("ADDRESS", self.address), "utf-8")
        script.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:  # noqa: PYI034  (Self is not in Python 3.10)
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process
        self._process.communicate(timeout=PATIENCE)  # closes its input, which it waits for

    def run(self, code: str, *, cwd: Path, env: Mapping[str, str] = os.environ) -> Done:
        """Run Python code to its end."""
        with tempfile.TemporaryFile() as output, socket.socket(socket.AF_UNIX) as server:
            server.settimeout(PATIENCE)
            server.connect(self.address)
            request = json.dumps({"code": code, "cwd": str(cwd), "env": dict(env)}).encode()
            with Path(os.devnull).open("rb") as nothing:
                files = [nothing.fileno(), output.fileno(), output.fileno()]
                socket.send_fds(server, [len(request).to_bytes(8, "big")], files)
            server.sendall(request)
            ended = int(server.recv(16))
            output.seek(0)
            return Done(ended, output.read().decode(errors="replace"))


def serve(address: str) -> None:
    """Fork for each request, until our input closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready", flush=True)  # noqa: T201  (whoever started us waits for it)
        while True:
            readable, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    attend(connection)


def attend(connection: socket.socket) -> NoReturn:
    """Read one request, fork once more to carry it out, and say how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        connection.close()
        for place, file in enumerate(files):
            os.dup2(file, place)
        carry_out(request["code"], request["cwd"], request["env"])
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def carry_out(code: str, cwd: str, env: dict[str, str]) -> NoReturn:
    """Be the process that was asked for."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c"]
    if "torch" in sys.modules:  # its pool of threads was lost in the fork; two threads that notice at once would crash
        sys.modules["torch"].set_num_threads(1)
    ended = 1
    try:
        exec(code, {"__name__": "__main__"})  # noqa: S102  (a process to run code is what we are)
        ended = 0
    except SystemExit as end:
        ended = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  (as the interpreter does at the top of a program)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(name)
    serve(sys.argv[1])
