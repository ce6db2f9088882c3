"""Data sets of the ``datasets`` library: saved with ``save_to_disk``, as Parquet files in a folder, or on the hub.

Code that comes with a data set is never run. Pictures stay encoded and on disk until they are asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.errors import DataError, nearest
from brushwork.readers import ImageFile, Row, batches, clean_all, columns, first, others

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from datasets import Dataset

    from brushwork.readers.batches import Sliced, Table

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of a picture, in memory."""

    data: bytes

    def read(self) -> bytes:
        """Return the bytes."""
        return self.data


class Cell:
    """A picture in a column of a table; pickled, it is its bytes and not the table."""

    def __init__(self, table: Table, column: str, index: int, name: str) -> None:
        self._table, self._column, self._index, self._name = table, column, index, name

    def read(self) -> bytes:
        """Return the encoded bytes.

        Raises:
            DataError: The row holds no picture.
        """
        (cell,) = self._table.cells(self._column, self._index, self._index + 1)
        if _is_empty(cell):
            message = f"{self._name}: the row holds no picture"
            raise DataError(message)
        data: bytes = ImageFile(cell["path"]).read() if cell["bytes"] is None else cell["bytes"]
        return data

    def __reduce__(self) -> tuple[type[Encoded], tuple[bytes]]:
        return Encoded, (self.read(),)


class ArrowRows:
    """Rows of a table."""

    def __init__(
        self,
        table: Table,
        image_column: str,
        caption_column: str,
        asked: str,
        mask_column: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.notes = notes
        self._table, self._mask_column = table, mask_column
        self._image_column, self._caption_column, self._asked = image_column, caption_column, asked

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        name = f"{self._asked}[{index}]"
        (texts,) = self._table.cells(self._caption_column, index, index + 1)
        captions = clean_all(texts, name)
        picture = Cell(self._table, self._image_column, index, name)
        return Row(name, picture, first(captions), self.mask(index), others=others(captions))

    def mask(self, index: int) -> Cell | None:
        """Return a row's mask; None where it has none."""
        column = self._mask_column
        if column is None or _is_empty(self._table.cells(column, index, index + 1)[0]):
            return None
        return Cell(self._table, column, index, f"the mask of {self._asked}[{index}]")

    def captions(self) -> Iterator[str | None]:
        """Yield every picture's first caption in order, read in batches."""
        for start, batch in self._batches(self._caption_column):
            yield from (first(clean_all(cell, f"{self._asked}[{start + i}]")) for i, cell in enumerate(batch))

    def licences(self) -> Iterator[str]:
        """Yield what the columns of licences say, where there are any."""
        for name in columns.usual(list(self._table.features), None, columns.LICENCES):
            for _, batch in self._batches(name):
                yield from (str(cell) for cell in batch if cell)

    def _batches(self, column: str) -> Iterator[tuple[int, list[Any]]]:
        for start in range(0, len(self), BATCH):
            yield start, self._table.cells(column, start, min(start + BATCH, len(self)))


def _is_empty(cell: dict[str, Any] | None) -> bool:
    return cell is None or (cell["bytes"] is None and cell["path"] is None)


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by ``save_to_disk``."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def saved(folder: Path, split: str) -> Dataset | Sliced:
    """Return the table that ``save_to_disk`` wrote, or the data set where ``datasets`` must open it.

    Raises:
        DataError: As ``from_disk``.
    """
    splits = folder / "dataset_dict.json"
    known = json.loads(splits.read_text("utf-8")).get("splits", []) if splits.is_file() else None
    home = folder if known is None else folder / split if split in known else None
    return (home and batches.saved(home)) or from_disk(folder, split)


def from_disk(folder: Path, split: str) -> Dataset:
    """Open what ``save_to_disk`` wrote.

    Raises:
        DataError: It is damaged or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        opened = load_from_disk(str(folder))
    except (OSError, ValueError, LookupError) as error:  # LookupError: it was saved without rows
        message = f"{folder} is not a readable saved data set ({_first_line(error)})."
        raise DataError(message) from error
    if not isinstance(opened, DatasetDict):
        return opened
    if split not in opened:
        message = f"data.split: {folder} has no split {split!r}.{nearest(split, opened)}"
        raise DataError(message)
    return opened[split]


def load(
    path: str, subset: str | None, split: str, revision: str | None = None, *, hint: str = "", streaming: bool = False
) -> Any:
    """Fetch a data set from the hub (or build it from the Parquet files in a folder).

    Args:
        path: A hub id or a folder.
        subset: One of its configurations.
        split: One of its splits.
        revision: The hub revision.
        hint: What to add when it is not found.
        streaming: Open it without fetching it: an ``IterableDataset``.

    Raises:
        DataError: It is not there, cannot be fetched, or needs code to be run.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    options = {"streaming": True} if streaming else {}
    try:
        return load_dataset(path, name=subset, split=split, revision=revision, **options)
    except DatasetNotFoundError as error:
        message = f"data: there is no data set {path!r} on the hub, or it needs a login: {_first_line(error)}{hint}"
        raise DataError(message) from error
    except (DatasetsError, ValueError, RuntimeError) as error:
        message = f"data: {path!r} could not be loaded: {_first_line(error)}"
        raise DataError(message) from error
    except OSError as error:
        message = (
            f"data: {path!r} is neither a folder here nor in the hub's cache, and fetching it failed: "
            f"{_first_line(error)}{hint}\n"
            f"Check the spelling and the network, set HF_TOKEN for a gated data set, or use an embedded one."
        )
        raise DataError(message) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def rows(
    dataset: Dataset | Sliced,
    image_column: str | None,
    caption_column: str | None,
    where: str,
    mask_column: str | None = None,
    *,
    masks: bool = False,
) -> ArrowRows:
    """Find the columns of pictures and captions, and of masks if they are wanted.

    Raises:
        DataError: A column is missing, of the wrong type, or several could be meant.
    """
    features = dataset.features
    pictures = [name for name, feature in features.items() if holds_images(feature)]
    named = [name for name in columns.usual(list(features), mask_column, columns.MASKS) if name in pictures]
    mask = columns.choose(list(features), named, mask_column, columns.MASKS, where) if masks else None
    image = columns.choose(
        list(features),
        [name for name in pictures if name != mask],
        image_column,
        columns.IMAGES,
        where,
    )
    caption = find_captions(dataset, caption_column, where)
    notes = [] if masks else columns.unused_masks([name for name in pictures if name != image], where)
    table = dataset if isinstance(dataset, batches.Sliced) else batches.of(dataset) or batches.Whole(dataset)
    found = ArrowRows(table, image, caption, where, mask, notes)
    if mask and all(found.mask(index) is None for index in range(len(found))):
        message = f"{where}: the column {mask} holds no mask in any row. Leave data.masks out, or fill it in."
        raise DataError(message)
    return found


def find_captions(dataset: Dataset | Sliced, asked: str | None, where: str) -> str:
    """Return the column of captions.

    Raises:
        DataError: It is missing, holds no text, or several could be meant.
    """
    features = dataset.features
    texts = [name for name, feature in features.items() if _holds_text(feature)]
    return columns.choose(list(features), texts, asked, columns.CAPTIONS, where)


def _holds_text(feature: Any) -> bool:
    """Return whether a column holds a text in each row, or a list of texts."""
    each = getattr(feature, "feature", feature)
    return getattr(each, "dtype", "") in ("string", "large_string")


def holds_images(feature: Any) -> bool:
    """Return whether a column holds pictures: as the Image feature, or as bytes with a path."""
    from datasets import Image

    return isinstance(feature, Image) or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))
