"""Which column holds what: named by the user, or found by its name, never guessed among several.

>>> choose(["image", "text"], ["text"], None, CAPTIONS, "pets")
'text'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from brushwork.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Wanted:
    """What a column should hold."""

    kind: str
    option: str
    """The setting by which the user names the column."""
    usual: tuple[tuple[str, ...], ...]
    """Usual names; a later row counts when there is none of the rows before."""


CAPTIONS = Wanted(
    "captions",
    "data.caption_column",
    (
        ("text", "caption", "prompt"),
        ("captions", "image_caption", "info_alt", "alt_text", "alt", "description", "image_description", "sentence"),
    ),
)
IMAGES = Wanted("pictures", "data.image_column", (("image",), ("img", "picture", "photo", "jpg", "png", "webp")))
FILES = Wanted("file names", "data.image_column", (("file_name",), ("filename", "file", "path", "image", "image_path")))
MASKS = Wanted(
    "masks",
    "data.mask_column",
    (("mask",), ("masks", "mask_image", "mask_file_name", "mask_file", "mask_path", "masklabel")),
)

LICENCES = Wanted("licences", "", (("license", "licence", "rights", "copyright", "license_url"),))


def usual(names: Sequence[str], asked: str | None, wanted: Wanted) -> list[str]:
    """Return the columns that may hold what only its name tells: the named one, or those with a usual name."""
    if asked is not None:
        return list(names)
    return [name for name in names if any(name.lower() in each for each in wanted.usual)]


def unused_masks(names: Sequence[str], where: str) -> list[str]:
    """Say that there are masks that nobody asked for."""
    found = usual(names, None, MASKS)
    return (
        [f"{where} has a column of masks, {found[0]}, which is not used. To use it: data.masks=true."] if found else []
    )


def choose(columns: Sequence[str], candidates: Sequence[str], asked: str | None, wanted: Wanted, where: str) -> str:
    """Return the column to use.

    Args:
        columns: Every column there is.
        candidates: Those that can hold what is wanted.
        asked: The column that the user named, if any.
        wanted: What is looked for.
        where: What the columns belong to, for messages.

    Raises:
        DataError: The named column is not there or cannot hold it; none or several columns can.
    """
    if asked is not None:
        return _named(columns, candidates, asked, wanted, where)
    for names in wanted.usual:
        found = [each for each in candidates if each.lower() in names]
        if len(found) == 1:
            return found[0]
        if found:
            break
    else:
        found = list(candidates)
    if len(found) == 1:
        return found[0]
    if not found:
        message = f"{where} has no column of {wanted.kind}. Its columns: {', '.join(columns) or 'none'}."
    else:
        message = (
            f"{where} has several columns that could hold the {wanted.kind}: {', '.join(found)}.\n"
            f"Say which one: {wanted.option}={found[0]}"
        )
    raise DataError(message)


def _named(columns: Sequence[str], candidates: Sequence[str], asked: str, wanted: Wanted, where: str) -> str:
    if asked in candidates:
        return asked
    if asked in columns:
        message = f"{wanted.option}: the column {asked!r} of {where} does not hold {wanted.kind}."
        raise DataError(message + (f" These could: {', '.join(candidates)}." if candidates else ""))
    hint = nearest(asked, columns)
    every = f" Its columns: {', '.join(columns)}." if "Did you mean" in hint else ""
    message = f"{wanted.option}: {where} has no column {asked!r}.{hint}{every}"
    raise DataError(message)
