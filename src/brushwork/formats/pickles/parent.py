"""Starts the process that reads a pickled file, and says what came of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from brushwork.errors import ModelError
from brushwork.formats.pickles import containers
from brushwork.runs import replacing

MEMORY = 2 << 30
"""Beside the file itself, which is mapped: Python, the tree of the pickle, and room for strange strides."""
BYTES_A_SECOND = 20 << 20
LEAST_SECONDS = 60
FILES = 32
START = "import sys; sys.path[:0] = [sys.argv[1]]; from brushwork.formats.pickles import worker; "
START += "import json, pathlib; a = sys.argv; "
START += "sys.exit(worker.main(pathlib.Path(a[2]), pathlib.Path(a[3]), json.loads(a[4])))"
WORDS = {
    "html": "a web page: the download failed or asked for a login",
    "git-lfs pointer": "a pointer of git-lfs, not the file itself; fetch it with git lfs pull",
    "empty": "empty; download it again",
    "gzip": "gzipped; unpack it first",
    "rar": "a rar archive; unpack it first",
    "7z": "a 7z archive; unpack it first",
    "tar": "a tar archive, or older than torch 0.1.10",
    "gguf": "a GGUF file, whose numbers are quantised",
    "json": "JSON",
    "unknown": "neither a pickle nor a zip",
}


@dataclass(frozen=True)
class Report:
    """What was in a file, and what was left out."""

    format: str
    tensors: int
    bytes: int
    dropped: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    """What the file wanted called that is no part of a tensor; none of it was."""
    name: str = ""
    """Of an embedding: what it calls itself."""

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)


def convert(source: Path, out: Path) -> Report:
    """Write the tensors of a pickled file as safetensors; nothing in it is run.

    A file that is safetensors already, whatever its name, is checked and copied.

    Args:
        source: The file.
        out: What is written; it appears when it is complete.

    Raises:
        ModelError: It is no checkpoint, is damaged, or asks for more than a checkpoint needs.
    """
    if not source.is_file():
        message = f"convert-ckpt: there is no file {str(source)!r}."
        raise ModelError(message)
    kind = containers.recognise(source)
    if kind in WORDS:
        message = f"convert-ckpt: {str(source)!r} is {WORDS[kind]}."
        raise ModelError(message)
    with replacing(out) as temporary:
        return _copied(source, temporary) if kind == "safetensors" else _taken_out(source.resolve(), temporary)


def _copied(source: Path, out: Path) -> Report:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source, framework="np") as file:
            count = len(file.keys())
    except SafetensorError as error:
        message = f"convert-ckpt: {str(source)!r} looks like safetensors but is damaged ({error})."
        raise ModelError(message) from error
    shutil.copyfile(source, out)
    return Report("safetensors", count, out.stat().st_size)


def limits_for(size: int) -> dict[str, int]:
    """Return what reading a file of this size may use, in bytes, seconds and open files."""
    return {
        "memory": MEMORY + size,
        "seconds": LEAST_SECONDS + size // BYTES_A_SECOND,
        "written": size + (256 << 20),
        "files": FILES,
    }


def _taken_out(source: Path, out: Path) -> Report:
    limits = limits_for(source.stat().st_size)
    package = str(Path(__file__).parents[3])
    command = [sys.executable, "-I", "-S", "-c", START, package, str(source), str(out.resolve()), json.dumps(limits)]
    try:
        done = subprocess.run(  # noqa: S603  (our own code, a path, and numbers)
            command, env={}, capture_output=True, timeout=4 * limits["seconds"], check=False, close_fds=True
        )
    except subprocess.TimeoutExpired as error:
        message = f"convert-ckpt: {str(source)!r} was not read after {4 * limits['seconds']} s. It is no checkpoint."
        raise ModelError(message) from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()
        answer = {"refused": f"reading it ended with {done.returncode} ({why[-1][:200] if why else 'no word'})"}
    if "refused" in answer:
        message = f"convert-ckpt: {str(source)!r} was not converted: {answer['refused']}."
        raise ModelError(message)
    dropped, called = (tuple(answer.pop(key)) for key in ("dropped", "called"))
    return Report(dropped=dropped, called=called, **answer)
