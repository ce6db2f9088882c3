"""A folder of pictures, however deep, each with a caption in a text file beside it.

photos/
cat.jpg  cat.txt
dogs/rex.png  dogs/rex.caption
"""

# A path is a plain string here, so that a million of them fit in memory.
# ruff: noqa: PTH110, PTH112, PTH113, PTH116, PTH119, PTH122

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from brushwork.errors import DataError, listing
from brushwork.readers import FileRows, clean, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tiff", ".tif", ".gif", ".avif"})
CAPTIONS = (".txt", ".caption")
NOT_READ = frozenset({".heic", ".heif", ".jxl", ".psd", ".svg", ".raw", ".cr2", ".nef", ".dng", ".eps"})
"""Pictures to people, but not to us: worth a word when they are left out."""


def read(folder: Path, files: Sequence[str], suffixes: Sequence[str] = CAPTIONS) -> FileRows:
    """Read every picture with the caption beside it.

    Args:
        folder: For messages.
        files: Everything below it, from ``walk``.
        suffixes: Of the caption files.

    Raises:
        DataError: There is no picture, a text cannot be read, or a picture has a .txt and a .caption.
    """
    found = pictures(files)
    if not found:
        message = f"{folder}: no pictures in this folder. {_contents(files)}"
        raise DataError(message)
    texts = beside(files, suffixes)
    _refuse_both(found, texts)
    rows = [(path, _caption(path, texts)) for path in found]
    lacking = any(caption is None for _, caption in rows)
    return FileRows(rows, [*_left_out(files), *(_orphans(found, texts) if lacking else [])])


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
                every = sorted(each.path for each in entries)
        except OSError as error:
            if refused is not None:
                refused.append(here)
                continue
            message = f"{here}: the folder cannot be listed ({error.strerror})"
            raise DataError(message) from error
        listed = [path for path in every if _is_shown(os.path.basename(path))]
        if hidden is not None:
            hidden += [path for path in every if not _is_shown(os.path.basename(path))]
        waiting += [path for path in reversed(listed) if os.path.isdir(path)]
        # A link that leads nowhere counts, so that it is reported as a picture that cannot be read.
        yield from (path for path in listed if os.path.isfile(path) or not os.path.exists(path))


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def pictures(files: Sequence[str]) -> list[str]:
    """Return those files that are pictures by their suffix."""
    return [each for each in files if _suffix(each) in PICTURES]


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def beside(files: Sequence[str], suffixes: Sequence[str] = CAPTIONS) -> dict[str, list[str]]:
    """Map the stem of each caption file (its path without the suffix) to the caption files of that stem."""
    texts: dict[str, list[str]] = {}
    for each in files:
        if _suffix(each) in suffixes:
            texts.setdefault(stem(each), []).append(each)
    return texts


def stem(path: str) -> str:
    """Return a path without its suffix: what a picture and its caption share."""
    return os.path.splitext(path)[0]


def _caption(path: str, texts: dict[str, list[str]]) -> str | None:
    found = texts.get(stem(path))
    return clean(read_text(Path(found[0])), found[0]) if found else None


def _refuse_both(found: Sequence[str], texts: dict[str, list[str]]) -> None:
    both = [path for path in found if len(texts.get(stem(path), ())) > 1]
    if both:
        message = (
            f"{len(both)} of {len(found)} pictures have both a .txt and a .caption ({listing(both)}).\n"
            f"Say which one is meant: data.captions=txt or data.captions=caption"
        )
        raise DataError(message)


def _contents(files: Sequence[str]) -> str:
    """Say what a folder holds, by suffix."""
    counts = Counter(_suffix(each) or "without a suffix" for each in files)
    held = listing([f"{count} {suffix}" for suffix, count in counts.most_common()], 5)
    return f"It holds {held or 'nothing'}; read are {', '.join(sorted(PICTURES))}."


def _left_out(files: Sequence[str]) -> list[str]:
    """Say which pictures are in a format that is not read."""
    names = [each for each in files if _suffix(each) in NOT_READ]
    if not names:
        return []
    return [f"{len(names)} files are in a format that is not read and are left out: {listing(names)}. Save as PNG."]


def _orphans(found: Sequence[str], texts: dict[str, list[str]]) -> list[str]:
    """Say which caption files belong to no picture (``cat.jpg.txt`` beside ``cat.jpg``)."""
    stems = {stem(path) for path in found}
    names = [each for key, paths in texts.items() if key not in stems for each in paths]
    return [f"{len(names)} caption files belong to no picture: {listing(names)}."] if names else []
