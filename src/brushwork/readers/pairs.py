"""Rows of two pictures of one caption, of which one was preferred; see ``LAYOUTS`` for the columns.

{"chosen": "a.png", "rejected": "b.png", "text": "a cat"}
{"image_0": "a.png", "image_1": "b.png", "label_0": 1, "text": "a cat"}

In the second form a label of 1 prefers the first picture, 0 the second, and 0.5 (or none) neither. Rows without a
preference are left out and counted, as the authors of Diffusion-DPO did.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from brushwork.errors import DataError, listing
from brushwork.readers import ImageFile, arrow, batches, clean, columns, metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from datasets import Dataset

    from brushwork.values import ImageBytes


class Layout(NamedTuple):
    """The columns of a table of pairs."""

    first: str
    second: str
    label: str | None = None
    """Which is preferred; without it the first."""


LAYOUTS = (
    Layout("chosen", "rejected"),
    Layout("jpg_0", "jpg_1", "label_0"),  # Pick-a-Pic's
    Layout("image_0", "image_1", "label_0"),
)
OTHER_LABEL = "label_1"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures and their caption; None where there is none."""

    name: str
    chosen: ImageBytes
    rejected: ImageBytes
    caption: str | None


class Pairs(Protocol):
    """Pairs by index."""

    notes: Sequence[str]
    """What the user should know but which is no error."""

    def __len__(self) -> int:
        """Return how many pairs there are."""

    def __getitem__(self, index: int) -> Pair:
        """Return one pair."""

    def captions(self) -> Iterable[str | None]:
        """Yield every caption in order without touching the pictures."""


def find_layout(names: Sequence[str], where: str) -> Layout:
    """Return which columns hold the pairs.

    Raises:
        DataError: None of the known layouts is there.
    """
    for layout in LAYOUTS:
        if {each for each in layout if each} <= set(names):
            return layout
    known = "; or ".join(", ".join(each for each in layout if each) for layout in LAYOUTS)
    message = f"{where} has no preference pairs. Its columns: {', '.join(names) or 'none'}.\nPairs are: {known}."
    raise DataError(message)


def preferred(row: Mapping[str, Any], layout: Layout, where: str) -> Literal[0, 1] | None:
    """Return which picture of a row was preferred; None for neither.

    Raises:
        DataError: A label is none of 1, 0, 0.5 and nothing.
    """
    if layout.label is None:
        return 0
    first = _label(row.get(layout.label), layout.label, where)
    second = _label(row[OTHER_LABEL], OTHER_LABEL, where) if OTHER_LABEL in row else 1 - first
    return None if first == second else 0 if first > second else 1


def _label(value: Any, column: str, where: str) -> float:
    if value is None or value == "":
        return 0.5
    try:
        label = float(value)
    except (TypeError, ValueError):
        label = math.nan
    if label not in (0, 0.5, 1):
        message = (
            f"{where}: {column} is {value!r}. It must be 1 (the first picture is preferred), 0 (the second) or 0.5."
        )
        raise DataError(message)
    return label


def _ties(decided: int, total: int, where: str) -> list[str]:
    """Say how many rows had no preference.

    Raises:
        DataError: None had one.
    """
    if not decided:
        message = f"{where}: none of the {total} rows prefers one picture to the other."
        raise DataError(message)
    left_out = total - decided
    return [f"{left_out} of {total} rows of {where} are ties and are left out."] if left_out else []


class PairFiles:
    """Pairs of files that a table in a folder names."""

    def __init__(self, table: Path, caption_column: str | None) -> None:
        """Read the table.

        Raises:
            DataError: It is no table of pairs, or files that it names are missing.
        """
        entries = metadata.entries(table)
        names = list(dict.fromkeys(name for _, row in entries for name in row))
        layout = find_layout(names, str(table))
        others = [name for name in names if name not in (*layout, OTHER_LABEL)]
        caption = columns.choose(names, others, caption_column, columns.CAPTIONS, str(table))
        self._rows: list[tuple[str, str, str | None]] = []
        for line, row in entries:
            where = f"{table}:{line}"
            winner = preferred(row, layout, where)
            if winner is not None:
                paths = [metadata.locate(table, line, row.get(name)) for name in layout[:2]]
                self._rows.append((paths[winner], paths[1 - winner], clean(row.get(caption), where)))
        # Of each row the file that is missing, so that rows are counted and not files.
        missing = [next((path for path in row[:2] if not Path(path).is_file()), row[0]) for row in self._rows]
        metadata.refuse_missing(table, missing)
        self.notes: Sequence[str] = _ties(len(self._rows), len(entries), str(table))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Pair:
        chosen, rejected, caption = self._rows[index]
        return Pair(chosen, ImageFile(chosen), ImageFile(rejected), caption)

    def captions(self) -> Iterable[str | None]:
        """Yield every caption in order."""
        return (caption for *_, caption in self._rows)


class ArrowPairs:
    """Pairs in a data set of the ``datasets`` library; the pictures stay on disk until they are asked for."""

    def __init__(self, dataset: Dataset, caption_column: str | None, asked: str) -> None:
        """Find the columns and read the labels.

        Raises:
            DataError: The data set holds no pairs, or a label cannot be understood.
        """
        plain, self._asked = dataset.with_format(None), asked
        layout = find_layout(list(dataset.features), asked)
        self._columns = layout[:2]
        wrong = [name for name in self._columns if not _holds_pictures(dataset.features[name])]
        if wrong:
            message = f"{asked}: the column {listing(wrong)} holds {dataset.features[wrong[0]].dtype}, not pictures."
            raise DataError(message)
        self._pictures = batches.Whole(dataset, self._columns)
        self._caption = arrow.find_captions(dataset, caption_column, asked)
        self._texts = plain.select_columns([self._caption])
        # Eight bytes a pair: twice its row, plus which of the two was preferred.
        self._places = array("q", _places(plain, layout, asked))
        self.notes: Sequence[str] = _ties(len(self._places), len(dataset), asked)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Pair:
        row, winner = divmod(self._places[index], 2)
        name = f"{self._asked}[{row}]"
        cells = [arrow.Cell(self._pictures, column, row, name) for column in self._columns]
        return Pair(name, cells[winner], cells[1 - winner], clean(self._texts[row][self._caption], name))

    def captions(self) -> Iterator[str | None]:
        """Yield every caption in order, read in batches."""
        for start in range(0, len(self), arrow.BATCH):
            rows = [place // 2 for place in self._places[start : start + arrow.BATCH]]
            texts = self._texts[rows][self._caption]
            yield from (clean(text, f"{self._asked}[{row}]") for row, text in zip(rows, texts, strict=True))


def _holds_pictures(feature: Any) -> bool:
    """Return whether a column holds pictures: as the Image feature, bytes with a path, or bare bytes."""
    return arrow.holds_images(feature) or getattr(feature, "dtype", "") in ("binary", "large_binary")


def _places(dataset: Dataset, layout: Layout, asked: str) -> Iterator[int]:
    """Yield 2 x row + preferred for each row with a preference; the labels are read in batches."""
    if layout.label is None:
        yield from range(0, 2 * len(dataset), 2)
        return
    labels = [name for name in (layout.label, OTHER_LABEL) if name in dataset.features]
    only = dataset.select_columns(labels)
    for start in range(0, len(dataset), arrow.BATCH):
        batch = only[start : start + arrow.BATCH]
        for row, values in enumerate(zip(*(batch[name] for name in labels), strict=True), start):
            winner = preferred(dict(zip(labels, values, strict=True)), layout, f"{asked}[{row}]")
            if winner is not None:
                yield 2 * row + winner
