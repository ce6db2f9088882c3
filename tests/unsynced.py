"""In tests nothing waits for the disk: what they write need not outlive a power cut, and a kill loses nothing by it.

unsynced.everywhere()
"""

from __future__ import annotations

import functools
import os
import sqlite3
from typing import Any


def everywhere() -> None:
    """Let ``os.fsync`` and SQLite's transactions return before the disk has written, in this process."""
    os.fsync = _nothing
    sqlite3.connect = functools.partial(_connect, sqlite3.connect)  # type: ignore[assignment]


def _nothing(_: object) -> None:
    pass


def _connect(connect: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = connect(*arguments, **options)
    connection.execute("pragma synchronous=off")
    return connection
