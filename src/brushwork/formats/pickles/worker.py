"""The process that reads a pickled file: first it gives up what it does not need, then it looks at the file.

    python -I -S -c "..." SOURCE OUT LIMITS              # started by brushwork.formats.pickles.parent

It has no site packages, so no torch. It limits its own memory, time, open files and the size of what it writes, leaves
the network behind where the system lets it, and refuses every import, process, socket and code object from then on.
Its answer is one JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from brushwork.formats.pickles import containers, tensors
from brushwork.formats.pickles.machine import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.formats.pickles.tensors import Picture

NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER
CODECS = ("ascii", "latin-1", "utf-8", "cp437", "raw-unicode-escape", "unicode-escape")
"""What texts in pickles and zips are written in. Python loads a codec at its first use, which would be too late."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
FORBIDDEN = (
    "import", "exec", "compile", "socket.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn",
    "subprocess.", "pickle.find_class", "ctypes.", "marshal.", "code.__new__", "shutil.", "os.remove", "os.rename",
    "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.chown", "urllib.", "webbrowser.", "ftplib.",
)  # fmt: skip
"""What Python's audit events begin with that this process has no business with once it looks at the file."""


def main(source: Path, out: Path, limits: dict[str, int]) -> int:
    """Convert one file; return the exit code."""
    _limit(limits)
    _leave_the_network()
    _forbid(out)
    try:
        answer = _convert(source, out)
    except Refused as error:
        answer = {"refused": str(error)}
    except MemoryError:
        answer = {"refused": f"reading it takes more than {limits['memory'] >> 20:,} MiB of memory"}
    except OSError as error:
        answer = {"refused": f"reading it was stopped: {error.strerror or error}"}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 0


def _limit(limits: dict[str, int]) -> None:
    import resource

    for kind, wanted in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_FSIZE, limits["written"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(kind)[1]
        value = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(kind, (value, value))


def _leave_the_network() -> None:
    """Move to a network of our own, which has nobody in it; where the system forbids that, the audit has to do."""
    import ctypes

    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(NEW_NETWORK):  # not root: as the root of a world of one's own it is allowed
            libc.unshare(NEW_USER | NEW_NETWORK)


def _forbid(out: Path) -> None:
    """Refuse everything but reading and the one file that is written, from here on and for good."""
    mine = str(out)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN) or (event == "open" and arguments[2] & WRITING and str(arguments[0]) != mine):
            _die(event)

    for name in CODECS:
        "".encode(name)
    sys.addaudithook(watch)


def _die(event: str) -> NoReturn:
    message = f"reading it tried to do something that reading does not do ({event})"
    raise Refused(message)


def _convert(source: Path, out: Path) -> dict[str, Any]:
    kind = containers.recognise(source)
    tree = containers.read(source, kind)
    found = tensors.collect(tree)
    if not found.tensors:
        message = f"there is no tensor in it{': ' + found.dropped[0] if found.dropped else ''}"
        raise Refused(message)
    written = _write(found.tensors, out)
    return {
        "format": kind,
        "tensors": len(found.tensors),
        "bytes": written,
        "dropped": found.dropped,
        "called": found.called,
        "name": found.name,
    }


def _write(named: dict[str, Picture], out: Path) -> int:
    """Write a safetensors file: the header's length, the header, the numbers of each tensor in turn."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    # The library's own order, larger numbers first, keeps every tensor aligned.
    order = sorted(named, key=lambda key: (-containers.ITEM_SIZES[named[key].dtype], key))
    for key in order:
        picture = named[key]
        header[key] = {
            "dtype": picture.dtype,
            "shape": list(picture.shape),
            "data_offsets": [place, place + picture.size],
        }
        place += picture.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with out.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key in order:
            file.writelines(named[key].pieces())
    return 8 + len(text) + place
