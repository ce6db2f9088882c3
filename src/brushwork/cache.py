"""A store of tensors on disk under content-addressed keys: what a frozen encoder made of a picture or a caption.

    store = TensorStore(folder)
    store.put(key, {"mean": mean, "std": std})
    store.get(key)["mean"]

A key is a hash of everything that the value depends on (the picture's bytes, the crop, the encoder's weights), so an
edited picture or caption can never meet an old entry. Values are appended to one flat file and found through an SQLite
index, which is written after the data: a kill leaves unused bytes at worst. Safe for several processes. Each writing of
the index waits for the disk, which takes longer than to encode a small picture; whoever puts many does it ``together``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

WRITE_EVERY = 1.0
"""Seconds between writings of the index while many entries are put."""


def cache_folder() -> Path:
    """Return where caches lie: ``$BRUSHWORK_CACHE`` or ``~/.cache/brushwork``."""
    return Path(os.environ.get("BRUSHWORK_CACHE") or Path.home() / ".cache" / "brushwork")


def content_key(*parts: str | float | bool) -> str:
    """Return the hash of everything a value depends on."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


class Hasher:
    """``content_key`` of texts that come one after the other, in constant memory."""

    def __init__(self) -> None:
        self._hash, self._separator = hashlib.blake2b(b"[", digest_size=20), b""

    def add(self, part: str) -> None:
        """Add a text."""
        self._hash.update(self._separator + json.dumps(part).encode())
        self._separator = b", "

    def key(self) -> str:
        """Return what ``content_key`` returns for all of them."""
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()


class TensorStore:
    """Named tensors by key in one folder. What is read stays in nobody's memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data = folder / "data.bin"
        self._data.touch()
        self._index = folder / "index.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self._file = -1
        self._pending: dict[str, str] = {}
        self._written: float | None = None
        with self._open() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, layout TEXT NOT NULL)")

    def _open(self) -> sqlite3.Connection:
        """Return this process's connection (SQLite's must not be carried over a fork)."""
        if self._connection is None or self._owner != os.getpid():
            self._connection, self._owner = sqlite3.connect(self._index, timeout=60), os.getpid()
            self._file = os.open(self._data, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
        return self._connection

    def __getstate__(self) -> dict[str, Any]:
        """Leave the connection and the file behind when going to another process."""
        return self.__dict__ | {"_connection": None, "_owner": 0, "_file": -1}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that are not stored, each once, in order."""
        find = "SELECT 1 FROM entries WHERE key = ?"
        others = (key for key in dict.fromkeys(keys) if key not in self._pending)
        return [key for key in others if self._open().execute(find, (key,)).fetchone() is None]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write the index once in a second and at the end; until then only this store finds the entries."""
        self._written = time.monotonic()
        try:
            yield
        finally:
            self._written = None
            self._write()

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Store tensors under a key; an existing entry stays."""
        arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
        with self._data.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            offset = file.seek(0, os.SEEK_END)
            layout = {}
            for name, array in arrays.items():
                layout[name] = [offset, list(array.shape), str(array.dtype)]
                file.write(array.tobytes())
                offset += array.nbytes
        self._pending[key] = json.dumps(layout)
        if self._written is None or time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def _write(self) -> None:
        """Write into the index what was put since the last time."""
        if not self._pending:
            return
        with self._data.open("rb") as file:
            os.fsync(file.fileno())  # so that no entry leads to what a power cut took
        with self._open() as connection:
            connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", self._pending.items())
        self._pending.clear()
        if self._written is not None:
            self._written = time.monotonic()

    def get(self, key: str) -> dict[str, Tensor]:
        """Return the tensors stored under a key (copies).

        Raises:
            KeyError: There is no such entry.
        """
        import torch

        row = self._open().execute("SELECT layout FROM entries WHERE key = ?", (key,)).fetchone()
        layout = row[0] if row else self._pending[key]
        tensors = {}
        for name, (offset, shape, dtype) in json.loads(layout).items():
            count = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raw = bytearray(os.pread(self._file, count, offset))
            tensors[name] = torch.from_numpy(np.frombuffer(raw, dtype).reshape(shape))
        return tensors
