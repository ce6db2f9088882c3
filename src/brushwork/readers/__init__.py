"""Readers: what lies in a folder, in a saved data set or on the hub, as rows of a picture and its caption.

    rows = folder.read(Path("photos"), "auto")
    rows[0].name, rows[0].caption, rows[0].image.read()

A row is light: the picture is read when it is asked for, so a million of them fit in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from brushwork.errors import DataError
from brushwork.readers.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from brushwork.values import ImageBytes


Captions = str | tuple[str, ...] | None
"""A picture's caption, several of them, or none."""


@dataclass(frozen=True, slots=True)
class Row:
    """A picture and its caption; None where there is none."""

    name: str
    image: ImageBytes
    caption: str | None
    mask: ImageBytes | None = None
    """What counts of it is white; None: all of it."""
    others: tuple[str, ...] = ()
    """Further captions of the same picture."""


class Rows(Protocol):
    """Rows by index."""

    notes: Sequence[str]
    """What the user should know but which is no error."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def __getitem__(self, index: int) -> Row:
        """Return one row."""

    def captions(self) -> Iterable[str | None]:
        """Yield every caption in order without touching the pictures."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A picture in a file."""

    path: str

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            message = f"{self.path}: the file cannot be read ({error.strerror})"
            raise DataError(message) from error


class FileRows:
    """Rows whose pictures are files."""

    def __init__(
        self, rows: Iterable[tuple[str, Captions]], notes: Sequence[str] = (), masks: Mapping[int, str] | None = None
    ) -> None:
        self._rows = Spool(rows)
        self.notes = notes
        self.masks = masks or {}
        """The files of masks by the number of the row, where a table names them."""

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        path, cell = self._rows[index]
        captions = tuple(cell) if isinstance(cell, list) else cell
        mask = ImageFile(self.masks[index]) if index in self.masks else None
        return Row(path, ImageFile(path), first(captions), mask, others=others(captions))

    def captions(self) -> Iterable[str | None]:
        """Yield every picture's first caption in order."""
        return (cell[0] if isinstance(cell, list) else cell for _, cell in self._rows)


def first(captions: Captions) -> str | None:
    """Return the first caption, if there is one."""
    return captions[0] if isinstance(captions, tuple) else captions


def others(captions: Captions) -> tuple[str, ...]:
    """Return what comes after the first caption."""
    return captions[1:] if isinstance(captions, tuple) else ()


def clean_all(captions: object, where: str) -> Captions:
    """Clean a cell of the column of captions, which may be a list of them; an empty list is none.

    Raises:
        DataError: It is not text, or one of several is empty.
    """
    if not isinstance(captions, list):
        return clean(captions, where)
    cleaned = [clean(caption, where) for caption in captions]
    if len(cleaned) > 1 and not all(cleaned):
        message = f"{where}: caption {1 + [bool(each) for each in cleaned].index(False)} of {len(cleaned)} is empty."
        raise DataError(message)
    return tuple(each for each in cleaned if each is not None) or None


def clean(caption: object, where: str) -> str | None:
    """Bring a caption to one line without spare blanks; None stays None.

    Raises:
        DataError: It is not text.
    """
    if caption is None:
        return None
    if not isinstance(caption, str):
        message = f"{where}: the caption is {caption!r}, not text. Name the right column: data.caption_column=..."
        raise DataError(message)
    return " ".join(caption.split())


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: It cannot be read or is in another encoding.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        message = f"{path}: the text is not UTF-8 ({byte}). Save the file as UTF-8."
        raise DataError(message) from error
    except OSError as error:
        message = f"{path}: the file cannot be read ({error.strerror})"
        raise DataError(message) from error
