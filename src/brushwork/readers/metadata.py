"""A folder of pictures with one table of captions: ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``.

{"file_name": "cats/tom.jpg", "text": "a grey cat"}
{"file_name": "cats/kit.jpg", "text": ["a small cat", "a kitten"]}
"""

# A path is a plain string here, so that a million of them fit in memory.
# ruff: noqa: PTH110, PTH113, PTH118

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

from brushwork.errors import DataError, listing
from brushwork.readers import FileRows, clean_all, columns, folder, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    files: Sequence[str],
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
    rows = entries(table)
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    image = columns.choose(
        names, columns.usual(names, image_column, columns.FILES), image_column, columns.FILES, str(table)
    )
    mask = _mask_column(table, names, mask_column) if masks else None
    others = [name for name in names if name not in (image, mask)]
    caption = columns.choose(names, others, caption_column, columns.CAPTIONS, str(table))
    paths = [locate(table, line, row.get(image)) for line, row in rows]
    refuse_missing(table, paths)
    captions = [clean_all(row.get(caption), f"{table}:{line}") for line, row in rows]
    drawn = _masks(table, mask, rows) if mask else {}
    notes = _unlisted(table, files, [*paths, *drawn.values()])
    unused = [] if masks else columns.unused_masks(others, str(table))
    return FileRows(list(zip(paths, captions, strict=True)), [*notes, *unused], drawn)


def _mask_column(table: Path, names: Sequence[str], asked: str | None) -> str | None:
    found = columns.usual(names, asked, columns.MASKS)
    return columns.choose(names, found, asked, columns.MASKS, str(table)) if found else None


def _masks(table: Path, column: str, rows: Sequence[tuple[int, dict[str, Any]]]) -> dict[int, str]:
    """Return the file of each row's mask; a row without one is a picture that counts wholly."""
    found = {
        place: locate(table, line, row[column])
        for place, (line, row) in enumerate(rows)
        if row.get(column) is not None and row[column] != ""
    }
    if not found:
        message = f"{table}: the column {column} names no mask in any row. Leave data.masks out, or fill it in."
        raise DataError(message)
    refuse_missing(table, list(found.values()))
    return found


def entries(table: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a table, each with its line.

    Raises:
        DataError: It cannot be read, or has none.
    """
    rows = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[table.suffix](table)
    if not rows:
        message = f"{table}: the table has no rows."
        raise DataError(message)
    return rows


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
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        message = f"{table}: {len(missing)} of {len(paths)} rows name a file that is not there: {listing(missing)}."
        raise DataError(message)


def _unlisted(table: Path, files: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Say which pictures below the table's folder it does not mention."""
    home = os.path.join(table.parent, "")
    listed = {os.path.normpath(path) for path in paths}
    below = [path for path in folder.pictures(files) if path.startswith(home)]
    names = [path for path in below if os.path.normpath(path) not in listed]
    return [f"{len(names)} pictures have no row in {table} and are left out: {listing(names)}."] if names else []


def _read_jsonl(table: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for line, text in enumerate(read_text(table).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            message = f"{table}:{line} is not JSON ({error.msg} at column {error.colno})."
            raise DataError(message) from error
        if not isinstance(row, dict):
            message = f'{table}:{line} is not an object. A line looks like {{"file_name": "a.jpg", "text": "a cat"}}.'
            raise DataError(message)
        rows.append((line, row))
    return rows


def _read_csv(table: Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(table), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                message = (
                    f"{table}:{reader.line_num} has not as many fields as the header ({len(reader.fieldnames or ())}). "
                    f"Put captions with commas in quotes."
                )
                raise DataError(message)
            rows.append((reader.line_num, row))
    except csv.Error as error:
        message = f"{table} is not CSV near line {reader.line_num + 1} ({error})."
        raise DataError(message) from error
    return rows


def _read_parquet(table: Path) -> list[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(enumerate(pq.read_table(table).to_pylist(), start=1))
    except (pa.ArrowException, OSError) as error:
        message = f"{table} is not a readable Parquet file ({str(error).splitlines()[0]})."
        raise DataError(message) from error
