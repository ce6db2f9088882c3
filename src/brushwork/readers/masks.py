"""Masks: what is white in one is what counts of its picture. ``cat-masklabel.png`` beside ``cat.jpg``, or a column.

files, masks = split(list(folder.walk(path)))
rows = MaskedRows(rows, masks)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brushwork.errors import DataError, listing
from brushwork.readers import ImageFile
from brushwork.readers import folder as folders
from brushwork.readers.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from brushwork.readers import Row, Rows

ENDING = "-masklabel.png"


def split(files: Iterable[str]) -> tuple[Iterable[str], dict[str, str]]:
    """Separate masks from the other files; they are returned by the stem of their picture."""
    masks = {path[: -len(ENDING)]: path for path in files if _is_mask(path)}
    return (Spool(path for path in files if not _is_mask(path)) if masks else files), masks


def _is_mask(path: str) -> bool:
    return path.lower().endswith(ENDING)


def check(
    folder: Path, files: Iterable[str], masks: Mapping[str, str], *, wanted: bool, in_table: bool = False
) -> None:
    """Refuse masks that nobody asked for, that belong to no picture, or that are not there (or there twice).

    Raises:
        DataError: One of these.
    """
    if masks and not wanted:
        message = (
            f"{folder} has {len(masks)} masks ({listing(masks.values())}).\n"
            f"To train on what is white in them: data.masks=true. Otherwise take them away."
        )
        raise DataError(message)
    orphans = dict(masks)
    for path in files if masks else ():
        if folders.is_picture(path):
            orphans.pop(folders.stem(path), None)
    if orphans:
        message = f"{len(orphans)} of {len(masks)} masks belong to no picture: {listing(orphans.values())}."
        raise DataError(message)
    if wanted and masks and in_table:
        message = f"{folder} has masks both in its table and beside the pictures ({listing(masks.values())}). Keep one."
        raise DataError(message)
    if wanted and not masks and not in_table:
        message = (
            f"data.masks=true, but {folder} has no masks. The mask of cat.jpg is cat{ENDING} beside it, or the file "
            f"that the table's column mask names."
        )
        raise DataError(message)


class MaskedRows:
    """Rows with the masks that lie beside their pictures; a picture without one counts wholly."""

    def __init__(self, rows: Rows, masks: Mapping[str, str]) -> None:
        self._rows, self._masks = rows, masks
        self.notes = rows.notes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        row = self._rows[index]
        path = self._masks.get(folders.stem(row.name))
        return row if path is None else replace(row, mask=ImageFile(path))

    def captions(self) -> Iterable[str | None]:
        """Yield every caption in order."""
        return self._rows.captions()


def problem(row: Row) -> str:
    """Say what is wrong with a row's mask, if it has one."""
    from brushwork import images

    if row.mask is None:
        return ""
    try:
        mask = images.decode(row.mask.read(), "black", f"the mask of {row.name}").convert("L")
        picture = images.decode(row.image.read(), name=row.name)
    except DataError as error:
        return str(error)
    if mask.size != picture.size:
        sizes = ["x".join(map(str, each.size)) for each in (mask, picture)]
        return f"the mask of {row.name} is {sizes[0]} but the picture is {sizes[1]}"
    return (
        "" if mask.getbbox() else f"the mask of {row.name} is black everywhere, so nothing of the picture would count"
    )
