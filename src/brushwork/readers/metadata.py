"""A folder of pictures with one table of captions: ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``.

{"file_name": "cats/tom.jpg", "text": "a grey cat"}
{"file_name": "cats/kit.jpg", "text": ["a small cat", "a kitten"]}
"""

# A path is a plain string here: a million of them go by, and none stays in memory.
# ruff: noqa: PTH110, PTH113, PTH118

from __future__ import annotations

import bisect
import csv
import itertools
import json
import os
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.errors import DataError
from brushwork.readers import FileRows, clean_all, columns, folder, read_text
from brushwork.readers.spool import Few

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from brushwork.readers import Captions

BATCH, BUFFER = 1000, 1 << 16
"""Rows of a Parquet file that are held at a time, and bytes that are read."""
NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def find(home: Path) -> Path | None:
    """Return the table in a folder, if there is one.

    Raises:
        DataError: There are several.
    """
    found = [home / name for name in NAMES if (home / name).is_file()]
    if len(found) > 1:
        message = f"{home} has several tables of captions: {', '.join(each.name for each in found)}. Keep one."
        raise DataError(message)
    return found[0] if found else None


def read(
    table: Path,
    files: Iterable[str],
    image_column: str | None = None,
    caption_column: str | None = None,
    mask_column: str | None = None,
    *,
    masks: bool = False,
) -> FileRows:
    """Read the rows of a table.

    Args:
        table: The file.
        files: Everything in the folder, to say which pictures have no row.
        image_column: The column of file names, if the user named it.
        caption_column: The column of captions, likewise.
        mask_column: The column of file names of masks, likewise.
        masks: Whether masks are wanted: then a column of them is read, if there is one.

    Raises:
        DataError: The table cannot be read, a column is missing, or files that it names are.
    """
    names: dict[str, None] = {}
    for _, row in stream(table):
        names |= dict.fromkeys(row)
    chosen = _Columns.choose(table, list(names), image_column, caption_column, mask_column if masks else None, masks)
    listed, missing, lost, drawn = _Listed(), Few(), Few(), dict[int, str]()

    def rows() -> Iterator[tuple[str, Captions]]:
        for place, (line, row) in enumerate(stream(table)):
            path = locate(table, line, row.get(chosen.image))
            listed.add(path)
            missing.add(*(() if os.path.isfile(path) else (path,)))
            # A row without a mask is a picture that counts wholly.
            if chosen.mask is not None and row.get(chosen.mask) not in (None, ""):
                drawn[place] = locate(table, line, row[chosen.mask])
                listed.add(drawn[place])
                lost.add(*(() if os.path.isfile(drawn[place]) else (drawn[place],)))
            yield path, clean_all(row.get(chosen.caption), f"{table}:{line}")

    found = FileRows(rows(), masks=drawn)
    _refuse_lost(table, missing, len(found))
    if chosen.mask is not None and not drawn:
        message = f"{table}: the column {chosen.mask} names no mask in any row. Leave data.masks out, or fill it in."
        raise DataError(message)
    _refuse_lost(table, lost, len(drawn))
    unused = [] if masks else columns.unused_masks([each for each in names if each != chosen.image], str(table))
    found.notes = [*_unlisted(table, files, listed), *unused]
    return found


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table hold what."""

    image: str
    caption: str
    mask: str | None

    @classmethod
    def choose(
        cls,
        table: Path,
        names: Sequence[str],
        image: str | None,
        caption: str | None,
        mask: str | None,
        masks: bool,  # noqa: FBT001
    ) -> _Columns:
        files = columns.usual(names, image, columns.FILES)
        image = columns.choose(names, files, image, columns.FILES, str(table))
        mask = _mask_column(table, names, mask) if masks else None
        others = [name for name in names if name not in (image, mask)]
        return cls(image, columns.choose(names, others, caption, columns.CAPTIONS, str(table)), mask)


def _mask_column(table: Path, names: Sequence[str], asked: str | None) -> str | None:
    found = columns.usual(names, asked, columns.MASKS)
    return columns.choose(names, found, asked, columns.MASKS, str(table)) if found else None


def entries(table: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a table, each with its line.

    Raises:
        DataError: It cannot be read, or has none.
    """
    return list(stream(table))


def stream(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table, each with its line, so that few are in memory at a time.

    Raises:
        DataError: It cannot be read, or has none.
    """
    read_rows = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[table.suffix]
    line = 0
    try:
        for line, row in read_rows(table):
            yield line, row
    except (OSError, UnicodeDecodeError):
        read_text(table)  # says it in its own words, with the place in the whole file
        raise
    if not line:
        message = f"{table}: the table has no rows."
        raise DataError(message)


def locate(table: Path, line: int, name: object) -> str:
    """Return the path of a file that a row names.

    Raises:
        DataError: It is no name.
    """
    if not isinstance(name, str) or not name:
        message = f"{table}:{line}: the file name is {name!r}. Each row names a picture, relative to the table."
        raise DataError(message)
    path = os.path.join(table.parent, name)
    # Tables written on Windows separate folders by backslashes.
    return path if "\\" not in name or os.path.exists(path) else os.path.join(table.parent, *name.split("\\"))


def refuse_missing(table: Path, paths: Sequence[str]) -> None:
    """Refuse rows that name files which are not there."""
    missing = Few()
    missing.add(*(path for path in paths if not os.path.isfile(path)))
    _refuse_lost(table, missing, len(paths))


def _refuse_lost(table: Path, missing: Few, of: int) -> None:
    if missing:
        message = f"{table}: {missing.count} of {of} rows name a file that is not there: {missing}."
        raise DataError(message)


class _Listed:
    """The files that a table names, by their hashes alone: eight bytes each. Of a million, no two have the same."""

    def __init__(self) -> None:
        self._hashes, self._sorted = array("q"), True

    def add(self, path: str) -> None:
        self._hashes.append(hash(os.path.normpath(path)))
        self._sorted = False

    def __contains__(self, path: str) -> bool:
        if not self._sorted:
            np.frombuffer(self._hashes, np.int64).sort()  # in place
            self._sorted = True
        wanted = hash(os.path.normpath(path))
        place = bisect.bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted


def _unlisted(table: Path, files: Iterable[str], listed: _Listed) -> list[str]:
    """Say which pictures below the table's folder it does not mention."""
    home = os.path.join(table.parent, "")
    names = Few()
    for path in files:
        if folder.is_picture(path) and path.startswith(home) and path not in listed:
            names.add(path)
    return [f"{names.count} pictures have no row in {table} and are left out: {names}."] if names else []


def _read_jsonl(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig", newline="\n") as lines:
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                message = f"{table}:{line} is not JSON ({error.msg} at column {error.colno})."
                raise DataError(message) from error
            if not isinstance(row, dict):
                message = (
                    f'{table}:{line} is not an object. A line looks like {{"file_name": "a.jpg", "text": "a cat"}}.'
                )
                raise DataError(message)
            yield line, row


def _read_csv(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    message = (
                        f"{table}:{reader.line_num} has not as many fields as the header "
                        f"({len(reader.fieldnames or ())}). Put captions with commas in quotes."
                    )
                    raise DataError(message)
                yield reader.line_num, row
        except csv.Error as error:
            message = f"{table} is not CSV near line {reader.line_num + 1} ({error})."
            raise DataError(message) from error


def _read_parquet(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table, buffer_size=BUFFER) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(BATCH))
            yield from enumerate(itertools.chain.from_iterable(batches), start=1)
    except (pa.ArrowException, OSError) as error:
        message = f"{table} is not a readable Parquet file ({str(error).splitlines()[0]})."
        raise DataError(message) from error
