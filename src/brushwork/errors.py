"""Every error brushwork raises on purpose, as one tree.

    BrushworkError
    |-- UserError (also ValueError)     the request was wrong: exit code 2
    |   |-- ConfigError                 a key or value in the configuration
    |   |-- DataError                   the training data
    |   `-- ModelError                  a base, adapter or run that cannot be used
    `-- RunFailed                       it broke while running: exit code 1
        `-- Diverged                    the loss or a gradient became NaN or infinite

A message says what is wrong, where, and how to fix it, in one to three lines.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class BrushworkError(Exception):
    """The root of everything brushwork raises on purpose."""

    exit_code = 1


class UserError(BrushworkError, ValueError):
    """The request was wrong; nothing has been written."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration key or value is wrong."""


class DataError(UserError):
    """The training data cannot be used as asked."""


class ModelError(UserError):
    """A base model, adapter or run cannot be used as asked."""


class RunFailed(BrushworkError):  # noqa: N818  (reads as an event: the run failed)
    """The request was right but running it failed."""


class Diverged(RunFailed):
    """The loss or a gradient became NaN or infinite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean X?"`` for the closest known name, else the list of known names.

    >>> nearest("rnak", ["rank", "alpha"])
    ' Did you mean rank?'
    """
    names = sorted(known)
    lowered = {each.lower(): each for each in names}
    matches = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if matches:
        return f" Did you mean {lowered[matches[0]]}?"
    return f" Known: {', '.join(names)}." if names else ""


def listing(names: Iterable[str], limit: int = 3) -> str:
    """Return the first few names and how many more there are: ``"a, b, c and 4 more"``."""
    every = list(names)
    shown = ", ".join(every[:limit])
    return shown if len(every) <= limit else f"{shown} and {len(every) - limit} more"
