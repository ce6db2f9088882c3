"""A process that has imported torch and diffusers once, and forks whoever needs them: a fresh process in milliseconds.

    with Server(folder) as server:
        done = server.run("from brushwork.cli import run; raise SystemExit(run(['doctor']))", cwd=..., env=...)
        done.code, done.output                  # the code is negative for a signal, as subprocess has it
        process = server.start(["-m", "brushwork", "serve"], cwd=..., stdout=file)      # as python would be started

``server.python`` is a program that stands where ``sys.executable`` stands, and ``server.command`` a folder for PATH
whose ``brushwork`` does the same. What runs is a process of its own, with its own folder, environment, files and
signals; only its imports are there already (eight seconds of CPU time). All servers of one folder are one process.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PATIENCE = 300.0
IMPORTED = (
    "accelerate",
    "brushwork.anatomy",
    "brushwork.api",
    "brushwork.cli.compare",
    "brushwork.cli.serve",
    "brushwork.cli.train",
    "brushwork.compare",
    "brushwork.evaluate",
    "brushwork.generate",
    "brushwork.models",
    "brushwork.serve.app",
    "brushwork.serve.easel",
    "brushwork.train",
    "diffusers.loaders",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "peft",
    "pytest",
    "torch.distributed",
    "transformers.models.clip.modeling_clip",
    "uvicorn",
)
PROGRAM = """#!PYTHON -IS
import json, os, signal, socket, sys
arguments = PREFIX + sys.argv[1:]
if not arguments or arguments[0] not in ("-m", "-u") and arguments[0].startswith("-"):
    os.execv("PYTHON", ["PYTHON", *arguments])
request = json.dumps({"argv": arguments, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect("ADDRESS")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    _, code = map(int, server.makefile().read().split())
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@dataclass(frozen=True)
class Done:
    """How a process ended, and all that it said on both channels."""

    code: int
    output: str


class Process:
    """A process that was forked for us, with the part of ``subprocess.Popen`` that tests use; it ends when we do."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lines = connection, connection.makefile("r")
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code once there is one.

        Raises:
            subprocess.TimeoutExpired: There is none in so many seconds.
        """
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._connection.send(bytes([number]))

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process, from ``with`` to its end: that of the last ``with`` over the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._address = folder, folder / "server"
        self.command = folder / "bin"
        self.python = self.command / "python"
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: socket.socket | None = None

    def prepare(self) -> Server:
        """Let it begin to import, if nobody has yet, and do not wait for it."""
        self.command.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self._keeper is not None:
                return self
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self._keeper = self._connected()
                self._ask(self._keeper, {"keep": True}, [])
                return self
            self._address.unlink(missing_ok=True)
            for name, prefix in (("python", []), ("brushwork", ["-m", "brushwork"])):
                text = PROGRAM.replace("PREFIX", repr(prefix)).replace("PYTHON", sys.executable)
                script = self.command / name
                script.write_text(text.replace("ADDRESS", str(self._address)), "utf-8")
                script.chmod(0o755)
            quiet = {"PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}
            log = (self._folder / "log").open("w")
            with log, socket.socket(socket.AF_UNIX) as listener:  # from now on others can connect, and wait
                listener.bind(str(self._address))
                listener.listen()
                listener.set_inheritable(True)
                number = listener.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, __file__, str(number), str(self.python)],
                    env=os.environ | quiet, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=[number],
                )  # fmt: skip
            self._keeper = self._connected()
            self._ask(self._keeper, {"keep": True}, [])
        return self

    def __enter__(self) -> Server:  # noqa: PYI034  (Self is not in Python 3.10)
        return self.prepare()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say that we do not need it any more; whoever started it waits until nobody does."""
        if self._keeper:
            self._keeper.close()
        if self._process:
            self._process.wait()

    @contextlib.contextmanager
    def _alone(self) -> Any:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._address))
        except OSError:
            connection.close()
            raise
        return connection

    @staticmethod
    def _ask(connection: socket.socket, request: dict[str, Any], files: Sequence[int]) -> None:
        data = json.dumps(request).encode()
        socket.send_fds(connection, [len(data).to_bytes(8, "big")], files)
        connection.sendall(data)

    def start(
        self, what: str | Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, stdout: int, stderr: int
    ) -> Process:
        """Start a process with some code, or with the arguments that python would get; the files are descriptors."""
        connection = self._connected()
        arguments = ["-c", what] if isinstance(what, str) else list(what)
        request = {"argv": arguments, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        with Path(os.devnull).open("rb") as nothing:
            self._ask(connection, request, [nothing.fileno(), stdout, stderr])
        return Process(connection)

    def run(self, code: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        """Run Python code to its end."""
        with tempfile.TemporaryFile() as output:
            number = output.fileno()
            ended = self.start(code, cwd=cwd, env=env, stdout=number, stderr=number).wait()
            output.seek(0)
            return Done(ended, output.read().decode(errors="replace"))


class Forks:
    """What the process does once all is imported: it forks for each request, until nobody keeps it any more."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.ended, self.told = socket.socketpair()
        self.keepers: set[socket.socket] = set()
        self.children: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        for each in (self.listener, self.ended):
            self.selector.register(each, selectors.EVENT_READ)

    def serve(self) -> None:
        """Wait and see."""
        self.told.setblocking(False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who use us
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.told.fileno(), warn_on_full_buffer=False)
        kept = False
        while self.keepers or not kept or self.asked():
            for key, _ in self.selector.select():
                connection: Any = key.fileobj
                if connection is self.listener:
                    self.begin(self.listener.accept()[0])
                elif connection is self.ended:
                    self.ended.recv(4096)
                    self.reap()
                elif connection.fileno() >= 0:  # not closed meanwhile
                    self.hear(connection)
            kept = kept or bool(self.keepers)

    def asked(self) -> bool:
        """Return whether somebody waits to be heard."""
        return any(each.fileobj is self.listener for each, _ in self.selector.select(0))

    def begin(self, connection: socket.socket) -> None:
        """Do what a new connection asks for."""
        request, files = receive(connection)
        if request is None:
            connection.close()
            return
        self.selector.register(connection, selectors.EVENT_READ)
        if "keep" in request:
            self.keepers.add(connection)
            return
        child = os.fork()
        if child == 0:
            ours = [self.listener, self.ended, self.told, connection, *self.keepers, *self.children.values()]
            be(request, files, ours)
        self.children[child] = connection
        connection.sendall(f"{child}\n".encode())
        for each in files:
            os.close(each)

    def hear(self, connection: socket.socket) -> None:
        """Pass signals on to a child; kill it when whoever started it is gone."""
        child = next((each for each, its in self.children.items() if its is connection), None)
        try:
            numbers = connection.recv(64)
        except ConnectionResetError:
            numbers = b""
        for number in numbers or [signal.SIGKILL]:
            if child is not None:
                os.kill(child, number)
        if not numbers:
            self.selector.unregister(connection)
            self.keepers.discard(connection)

    def reap(self) -> None:
        """Say how those ended that have ended."""
        while self.children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            connection = self.children.pop(child)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            with contextlib.suppress(KeyError):
                self.selector.unregister(connection)
            connection.close()


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Return a request and the files that came with it; None if whoever connected is gone already."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    if len(size) < 8:
        return None, files
    data = b""
    while len(data) < int.from_bytes(size, "big"):
        data += connection.recv(int.from_bytes(size, "big") - len(data)) or b" "
    return json.loads(data), files


def be(request: dict[str, Any], files: Sequence[int], ours: Sequence[socket.socket]) -> NoReturn:
    """Be the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    for each in ours:
        each.close()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.executable = sys.argv[2]  # what it starts is forked too
    if "torch" in sys.modules:  # its pool of threads was lost in the fork; two threads that notice at once would crash
        sys.modules["torch"].set_num_threads(1)
    ended = 1
    try:
        carry_out(request["argv"])
        ended = 0
    except SystemExit as end:
        ended = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  (as the interpreter does at the top of a program)
        traceback.print_exc()
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(ended)


def carry_out(argv: list[str]) -> None:
    """Do what python does with these arguments."""
    option, *rest = argv
    if option == "-u":
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
        carry_out(rest)
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})  # noqa: S102  (a process to run code is what we are)
    elif option == "-m":
        sys.argv = rest
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        sys.path.insert(0, str(Path(option).parent))
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    import torch
    import unsynced

    unsynced.everywhere()
    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is imported is never garbage: no collection of a child needs to touch, and so copy, its pages
    Forks(socket.socket(fileno=int(sys.argv[1]))).serve()
