"""A list too long for memory: its rows lie in a temporary file, and 64 of them cost eight bytes here.

    spool = Spool()
    spool.append(["a.jpg", "a cat"])
    spool[0]                                    # ["a.jpg", "a cat"]

Rows are whatever JSON can hold, one on each line. The file goes with its last owner. Reading is one ``pread`` of a
block of rows, so threads, forked and spawned processes may read at the same time, and what was read stays in nobody's
memory.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import tempfile
import weakref
from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BUFFER = 1 << 16
"""Bytes that are written at a time."""
BLOCK = 64
"""The place in the file is remembered of every so many rows; those between are found by their ends of line."""

SORTED = 50_000
"""So many names are sorted in memory at a time."""
NAMED = 3
"""So many names are kept of many."""


class Spool:
    """Rows on disk, by index."""

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        self._file, self._path = tempfile.mkstemp(prefix="brushwork-rows-")
        self._starts, self._count = array("Q"), 0
        self._waiting, self._held, self._size = bytearray(), 0, 0
        weakref.finalize(self, _remove, self._file, self._path, os.getpid())
        for row in rows:
            self.append(row)
        self._flush()

    def append(self, row: Any) -> None:
        """Add a row."""
        if self._count % BLOCK == 0:
            self._starts.append(self._size)
        data = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
        self._waiting += data
        self._size += len(data)
        self._count += 1
        if len(self._waiting) >= BUFFER:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._held += os.pwrite(self._file, self._waiting, self._held)
            assert self._held == self._size, "the disk took only a part"
            self._waiting = bytearray()

    def __len__(self) -> int:
        return self._count

    def _lines(self, block: int) -> list[bytes]:
        """Read a block of rows; JSON has no ends of line within."""
        self._flush()
        start = self._starts[block]
        end = self._starts[block + 1] if block + 1 < len(self._starts) else self._size
        return os.pread(self._file, end - start, start).split(b"\n")[:-1]

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return _row(self._lines(index // BLOCK)[index % BLOCK])

    def __iter__(self) -> Iterator[Any]:
        for block in range(len(self._starts)):
            yield from map(_row, self._lines(block))

    def __getstate__(self) -> dict[str, Any]:
        """Go to another process as a path; the file stays this one's."""
        self._flush()
        return {"path": self._path, "starts": self._starts, "count": self._count, "size": self._size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path, self._starts = state["path"], state["starts"]
        self._count, self._size = state["count"], state["size"]
        self._file = os.open(self._path, os.O_RDONLY)
        self._waiting, self._held = bytearray(), self._size
        weakref.finalize(self, os.close, self._file)


def _row(line: bytes) -> Any:
    return json.loads(line.decode("utf-8", "surrogateescape"))


def in_order(names: Iterable[str]) -> Iterable[str]:
    """Return names in order, to be gone through again and again; many are sorted on disk, some at a time."""
    waiting, done = iter(names), []
    while len(part := sorted(itertools.islice(waiting, SORTED))) == SORTED:
        done.append(Spool(part))
    return Spool(heapq.merge(*done, part)) if done else part


class Few:
    """How many names there are, and the first of them, for a message about many."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, *names: str) -> None:
        """Count some more."""
        self.count += len(names)
        self._first += names[: NAMED - len(self._first)]

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        """Return the first few and how many more there are, as ``errors.listing`` does."""
        shown = ", ".join(self._first)
        return shown if self.count <= NAMED else f"{shown} and {self.count - NAMED} more"


def _remove(file: int, path: str, owner: int) -> None:
    """Close the file, and remove it unless this is a forked child of whoever made it."""
    os.close(file)
    if os.getpid() == owner:
        os.unlink(path)  # noqa: PTH108  (a path is a plain string in the readers)
