"""Training runs that wait for the one before them, in a file, so that a restart of the server finds them.

turns = Turns(Path("served/waiting.json"), most=16)
turns.add("2026-11-21-lora-1a2b", ["recipe.yaml", "--out", "runs/2026-11-21-lora-1a2b"])
turns.take()                                    # the first, which is no longer waiting then
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from brushwork.runs import write_json
from brushwork.serve.line import Full

if TYPE_CHECKING:
    from pathlib import Path


class Waiting(NamedTuple):
    """A run and what its command is given."""

    name: str
    arguments: list[str]


class Turns:
    """Who waits, the first first."""

    def __init__(self, path: Path, most: int) -> None:
        self.path, self.most = path, most
        self._waiting = [Waiting(*each) for each in json.loads(path.read_text("utf-8"))] if path.is_file() else []

    def __len__(self) -> int:
        return len(self._waiting)

    def names(self) -> list[str]:
        """Return the names, in order."""
        return [each.name for each in self._waiting]

    def add(self, name: str, arguments: list[str]) -> None:
        """Put a run at the end.

        Raises:
            Full: With the limit.
        """
        if len(self) >= self.most:
            message = f"{self.most} training runs wait already, which is the limit; wait for one, or take one out"
            raise Full(message)
        self._waiting.append(Waiting(name, arguments))
        self._write()

    def take(self) -> Waiting:
        """Take the first out."""
        first = self._waiting.pop(0)
        self._write()
        return first

    def leave(self, name: str) -> bool:
        """Take a run out and return whether it waited."""
        there = len(self)
        self._waiting = [each for each in self._waiting if each.name != name]
        if len(self) == there:
            return False
        self._write()
        return True

    def _write(self) -> None:
        write_json(self.path, self._waiting)
