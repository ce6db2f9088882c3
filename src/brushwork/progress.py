"""Progress for people, on stderr: a moving bar on a terminal, a line now and then elsewhere.

with bar("encoding pictures", total=100) as advance:
for picture in pictures:
advance(1, "12 pictures/s")
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_SECONDS = 10.0
"""Away from a terminal, how long to stay silent between two lines."""

_silent = False


class Advance(Protocol):
    """Call after each piece of work."""

    def __call__(self, count: int = 1, text: str = "") -> None:
        """Say that ``count`` more pieces are done; ``text`` is shown beside the bar."""


def silence(silent: bool = True) -> None:  # noqa: FBT001, FBT002  (reads well: silence(), silence(False))
    """Show no progress and no notes in this process (or show them again)."""
    global _silent  # noqa: PLW0603  (one stderr in a process)
    _silent = silent


def note(text: str) -> None:
    """Print a line for people."""
    if not _silent:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  (this is the one place that prints)


@contextmanager
def bar(what: str, total: int, start: int = 0) -> Iterator[Advance]:
    """Show how far ``what`` has come."""
    if _silent or total <= 0:
        yield lambda count=1, text="": None  # noqa: ARG005
    elif sys.stderr.isatty():
        with _moving(what, total, start) as advance:
            yield advance
    else:
        yield _lines(what, total, start)


@contextmanager
def _moving(what: str, total: int, start: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, completed=start, text="")

        def advance(count: int = 1, text: str = "") -> None:
            progress.update(task, advance=count, text=text)

        yield advance


def _lines(what: str, total: int, start: int) -> Advance:
    done, printed = start, time.monotonic()
    note(f"{what}: {total - start}")

    def advance(count: int = 1, text: str = "") -> None:
        nonlocal done, printed
        done += count
        if done >= total or time.monotonic() - printed > QUIET_SECONDS:
            printed = time.monotonic()
            note(f"{what}: {done}/{total} {text}".rstrip())

    return advance
