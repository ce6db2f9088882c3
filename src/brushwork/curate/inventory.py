"""Everything that lies in a data set's folder, each file with its part in it, however broken; or the rows of another.

    found = collect(captioned.Config(path="photos"))
    found.files["captions"], len(found.rows)

Where training would stop at the first thing that is wrong, this goes on and tells.
"""

from __future__ import annotations

import collections
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from brushwork.curate.findings import Finding
from brushwork.errors import DataError
from brushwork.readers import FileRows, clean, columns, masks, metadata, read_text, shards
from brushwork.readers import folder as folders
from brushwork.sources import captioned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brushwork.readers import Rows

LICENCE_FILES = ("license", "licence", "copying", "license.txt", "license.md", "licence.txt", "licence.md")


@dataclass
class Collected:
    """What is there."""

    rows: Rows
    files: dict[str, int] = field(default_factory=dict)
    """How many files play which part; empty where the data are no folder of files."""
    findings: list[Finding] = field(default_factory=list)
    licences: dict[str, int] = field(default_factory=dict)


def collect(config: captioned.Config) -> Collected:
    """Find the rows of a data set and account for every file of its folder.

    Raises:
        DataError: There is no such data set, or no picture in it.
    """
    from brushwork.readers import arrow

    folder = None if shards.is_shards(config.path) else captioned.find_folder(config.path)
    if folder is None or arrow.is_saved(folder):
        rows = captioned.find_rows(config)
        return Collected(rows, findings=_noted(rows.notes), licences=_licences_of(rows))
    hidden: list[str] = []
    refused: list[str] = []
    files = list(folders.walk(folder, hidden, refused))
    if captioned.is_shards(files):
        rows = captioned.find_rows(config)
        return Collected(rows, findings=_noted(rows.notes), licences=_licences_of(rows))
    roles = dict(_roles(files))
    pictures = [path for path in files if roles[path] == "pictures"]
    findings = [Finding("error", "unreadable folder", f"{path} cannot be listed", 1, 1) for path in refused]
    try:
        rows = captioned.find_rows(config)
        findings += _noted(rows.notes)
    except DataError as error:
        if not pictures:
            raise
        findings.append(Finding("error", "captions", str(error).replace("\n", " "), 1, 1))
        rows = FileRows([(path, caption) for path, caption in _captions(pictures, files)])
    counts = collections.Counter(roles.values())
    counts["hidden"], counts["folders that cannot be listed"] = len(hidden), len(refused)
    other = [path for path in files if roles[path] == "other"]
    if other:
        message = f"{len(other)} files are neither pictures nor captions and are left out"
        findings.append(Finding("note", "other files", message, len(other), len(files), tuple(other[:200])))
    return Collected(rows, {role: count for role, count in counts.items() if count}, findings, _licences(folder))


def open_rows(
    path: str,
    *,
    split_name: str | None = "train",
    captions: str | None = "auto",
    image_column: str | None = None,
    caption_column: str | None = None,
) -> tuple[Rows, str]:
    """Open a data set to be written anew: its rows with their masks, and its folder ("" where it is none).

    Missing captions are no obstacle.

    Raises:
        DataError: There is no such data set, or no picture in it.
    """
    folder = None if shards.is_shards(path) else captioned.find_folder(path)
    masked = folder is not None and any(each.lower().endswith(masks.ENDING) for each in folders.walk(folder))
    asked = {"split": split_name, "captions": captions, "image_column": image_column, "caption_column": caption_column}
    rows = captioned.find_rows(captioned.Config.model_validate({"path": path, "masks": masked, **asked}))
    if not len(rows):
        message = f"{path} has no pictures."
        raise DataError(message)
    return rows, "" if folder is None else str(folder)


def _noted(notes: Sequence[str]) -> list[Finding]:
    return [Finding("warning", "left out", note, 1, 1) for note in notes]


def _roles(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every file with the part that it plays."""
    stems = {folders.stem(path) for path in folders.pictures(files)}
    for path in files:
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  (a path is a plain string in the readers)
        if path.lower().endswith(masks.ENDING):
            yield path, "masks"
        elif suffix in folders.PICTURES:
            yield path, "pictures"
        elif suffix in folders.CAPTIONS and folders.stem(path) in stems:
            yield path, "captions"
        elif suffix in folders.CAPTIONS:
            yield path, "captions of no picture"
        elif Path(path).name in metadata.NAMES:
            yield path, "tables"
        elif suffix in folders.NOT_READ:
            yield path, "pictures in a format that is not read"
        else:
            yield path, "other"


def _captions(pictures: Sequence[str], files: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield every picture with the caption beside it, None where it cannot be read."""
    texts = folders.beside(files)
    for path in pictures:
        beside = texts.get(folders.stem(path), [])
        try:
            yield path, clean(read_text(Path(beside[0])), beside[0]) if beside else None
        except DataError:
            yield path, None


def _licences(folder: Path) -> dict[str, int]:
    """Count what the table's column of licences says, and files that hold one."""
    found: collections.Counter[str] = collections.Counter()
    for path in sorted(folder.iterdir()):
        if path.name.lower() in LICENCE_FILES and path.is_file():
            found[f"the file {path.name}"] += 1
    try:
        table = metadata.find(folder)
        rows = [row for _, row in metadata.entries(table)] if table else []
    except DataError:
        return dict(found)
    for row in rows:
        found.update(str(row[name]) for name in columns.usual(list(row), None, columns.LICENCES) if row[name])
    return dict(found.most_common())


def _licences_of(rows: Rows) -> dict[str, int]:
    """Count what a data set's column of licences says."""
    column = getattr(rows, "licences", None)
    return dict(collections.Counter(map(str, column())).most_common()) if column else {}
