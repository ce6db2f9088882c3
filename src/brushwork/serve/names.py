"""Names that become folders: of runs and data sets that a client makes. Nothing in them can lead anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from brushwork.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}")


def check(name: str, what: str) -> str:
    """Return a name that may become a folder's.

    Raises:
        UserError: It has other characters than letters, digits, space, dot, dash and underscore, or is too long.
    """
    if not _NAME.fullmatch(name) or name.endswith((".", " ")) or ".." in name:
        message = f"{what}: {name[:80]!r} is no name: up to 64 letters, digits, spaces, dots, dashes and underscores"
        raise UserError(message)
    return name


def inside(folder: Path, name: str, what: str, known: list[str]) -> Path:
    """Return the folder of something that is there.

    Raises:
        UserError: With the nearest name.
    """
    if name not in known:
        message = f"{what}: there is no {name[:80]!r}.{nearest(name, known)}"
        raise UserError(message)
    return folder / name
