"""A folder of pictures, however deep, each with a caption in a text file beside it.

photos/
cat.jpg  cat.txt
dogs/rex.png  dogs/rex.caption
"""

# A path is a plain string here: a million of them go by, and none stays in memory.
# ruff: noqa: PTH110, PTH112, PTH113, PTH116, PTH118, PTH122

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from brushwork.errors import DataError, listing
from brushwork.readers import FileRows, clean, read_text
from brushwork.readers.spool import Few, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tiff", ".tif", ".gif", ".avif"})
CAPTIONS = (".txt", ".caption")
NOT_READ = frozenset({".heic", ".heif", ".jxl", ".psd", ".svg", ".raw", ".cr2", ".nef", ".dng", ".eps"})
"""Pictures to people, but not to us: worth a word when they are left out."""


def read(folder: Path, files: Iterable[str], suffixes: Sequence[str] = CAPTIONS) -> FileRows:
    """Read every picture with the caption beside it.

    Args:
        folder: For messages.
        files: Everything below it, from ``walk``, to be gone through again and again.
        suffixes: Of the caption files.

    Raises:
        DataError: There is no picture, a text cannot be read, or a picture has a .txt and a .caption.
    """
    both, orphans, bare = Few(), Few(), Few()

    def rows() -> Iterator[tuple[str, str | None]]:
        for path, texts in matched(files, suffixes):
            if path is None:
                orphans.add(*texts)
            elif len(texts) > 1:
                both.add(path)
            else:
                bare.add(*(() if texts else (path,)))
                yield path, clean(read_text(Path(texts[0])), texts[0]) if texts else None

    found = FileRows(rows())
    if both:
        message = (
            f"{both.count} of {len(found) + both.count} pictures have both a .txt and a .caption ({both}).\n"
            f"Say which one is meant: data.captions=txt or data.captions=caption"
        )
        raise DataError(message)
    if not len(found):
        message = f"{folder}: no pictures in this folder. {_contents(files)}"
        raise DataError(message)
    # cat.jpg.txt beside cat.jpg
    lost = [f"{orphans.count} caption files belong to no picture: {orphans}."] if orphans and bare else []
    found.notes = [*_left_out(files), *lost]
    return found


def walk(folder: Path, hidden: list[str] | None = None, refused: list[str] | None = None) -> Iterator[str]:
    """Yield every file below a folder in a fixed order; hidden ones are left out, loops of links are walked once.

    Args:
        folder: Where to begin.
        hidden: Takes what is hidden, a folder as one.
        refused: Takes the folders that cannot be listed, instead of an error.

    Raises:
        DataError: A folder cannot be listed.
    """
    waiting, seen = [str(folder)], set()
    while waiting:
        here = waiting.pop()
        try:
            state = os.stat(here)
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(here) as entries:
                every = in_order(each.name for each in entries)
        except OSError as error:
            if refused is not None:
                refused.append(here)
                continue
            message = f"{here}: the folder cannot be listed ({error.strerror})"
            raise DataError(message) from error
        inner = []
        for name in every:
            path = os.path.join(here, name)
            if not _is_shown(name):
                if hidden is not None:
                    hidden.append(path)
            elif os.path.isdir(path):
                inner.append(path)
            # A link that leads nowhere counts, so that it is reported as a picture that cannot be read.
            elif os.path.isfile(path) or not os.path.exists(path):
                yield path
        waiting += reversed(inner)


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def pictures(files: Iterable[str]) -> list[str]:
    """Return those files that are pictures by their suffix."""
    return [each for each in files if is_picture(each)]


def is_picture(path: str) -> bool:
    """Return whether a file is a picture by its suffix."""
    return _suffix(path) in PICTURES


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def beside(files: Iterable[str], suffixes: Sequence[str] = CAPTIONS) -> dict[str, list[str]]:
    """Map the stem of each caption file (its path without the suffix) to the caption files of that stem."""
    texts: dict[str, list[str]] = {}
    for each in files:
        if _suffix(each) in suffixes:
            texts.setdefault(stem(each), []).append(each)
    return texts


def stem(path: str) -> str:
    """Return a path without its suffix: what a picture and its caption share."""
    return os.path.splitext(path)[0]


@dataclass(slots=True)
class _Group:
    """Files of one stem, while they are gone through."""

    stem: str
    texts: list[str] = field(default_factory=list)
    has_picture: bool = False
    complete: bool = False


def matched(files: Iterable[str], suffixes: Sequence[str] = CAPTIONS) -> Iterator[tuple[str | None, list[str]]]:
    """Yield every picture with the caption files beside it, and None with caption files that no picture has.

    Args:
        files: From ``walk``, whose order it takes.
        suffixes: Of the caption files.

    A folder's names are sorted, so between two files of the stem ``cat`` there is nothing that does not begin with
    ``cat.``: a stem is complete as soon as such a name comes, and few are held at a time.
    """
    open_: list[_Group] = []
    waiting: deque[tuple[str, _Group]] = deque()
    for path in itertools.chain(files, [""]):
        while open_ and not path.startswith(f"{open_[-1].stem}."):
            closed = open_.pop()
            closed.complete = True
            if closed.texts and not closed.has_picture:
                yield None, closed.texts
        while waiting and waiting[0][1].complete:
            picture, group = waiting.popleft()
            yield picture, group.texts
        if not (is_picture(path) or _suffix(path) in suffixes):
            continue
        if not open_ or open_[-1].stem != stem(path):
            open_.append(_Group(stem(path)))
        if is_picture(path):
            open_[-1].has_picture = True
            waiting.append((path, open_[-1]))
        else:
            open_[-1].texts.append(path)


def _contents(files: Iterable[str]) -> str:
    """Say what a folder holds, by suffix."""
    counts = Counter(_suffix(each) or "without a suffix" for each in files)
    held = listing([f"{count} {suffix}" for suffix, count in counts.most_common()], 5)
    return f"It holds {held or 'nothing'}; read are {', '.join(sorted(PICTURES))}."


def _left_out(files: Iterable[str]) -> list[str]:
    """Say which pictures are in a format that is not read."""
    names = Few()
    for each in files:
        if _suffix(each) in NOT_READ:
            names.add(each)
    if not names:
        return []
    return [f"{names.count} files are in a format that is not read and are left out: {names}. Save as PNG."]
