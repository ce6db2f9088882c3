"""Arrow files of the ``datasets`` library, read a record batch at a time.

    table = batches.of(dataset) or batches.Whole(dataset)
    table.cells("text", 0, 1000)

pyarrow lists every record batch of an open table: two kilobytes for each, and pictures are saved in batches of a
hundred. Here a batch is where it begins in its file: eight bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datasets import Dataset, Features


class Table(Protocol):
    """Columns of cells as Python values; a picture is a dictionary of its bytes and its path."""

    features: Features

    def __len__(self) -> int: ...

    def cells(self, column: str, start: int, stop: int) -> list[Any]:
        """Return the cells of some rows."""
        ...


class Whole:
    """A data set as ``datasets`` opens it; ``pictures``: columns to be taken for pictures, whatever their type."""

    def __init__(self, dataset: Dataset, pictures: Sequence[str] = ()) -> None:
        self.features, self._pictures = dataset.features, pictures
        self._dataset = dataset.with_format(None)
        self._columns: dict[str, Dataset] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def cells(self, column: str, start: int, stop: int) -> list[Any]:
        """Return the cells of some rows."""
        if column not in self._columns:
            from datasets import Image

            alone = self._dataset.select_columns([column])
            pictures = isinstance(self.features[column], Image) or column in self._pictures
            self._columns[column] = alone.cast_column(column, Image(decode=False)) if pictures else alone
        found: list[Any] = self._columns[column][start:stop][column]
        return found


class Sliced:
    """The same rows, of the files themselves."""

    def __init__(self, files: Sequence[str], features: Features) -> None:
        import pyarrow as pa

        self.features, self._files = features, list(files)
        self._data = [pa.memory_map(each).read_buffer() for each in files]
        self.schemas: list[Any] = []
        places = [np.empty((0, 3), np.int64)]
        for number, data in enumerate(self._data):
            found = [(number, offset, rows) for offset, rows in self._look(data)]
            places.append(np.array(found, np.int64).reshape(-1, 3))
        self._places = np.concatenate(places)
        self._ends = np.cumsum(self._places[:, 2])
        self._starts = self._ends - self._places[:, 2]

    def _look(self, data: Any) -> list[tuple[int, int]]:
        """Return where each record batch of a file begins and how many rows it has; the schema is kept."""
        import pyarrow as pa

        source = pa.BufferReader(data)
        schema = pa.ipc.read_schema(pa.ipc.read_message(source))
        self.schemas.append(schema)
        found = []
        while (offset := source.tell()) < data.size:
            try:
                message = pa.ipc.read_message(source)
            except EOFError:  # the mark at the end
                break
            found.append((offset, pa.ipc.read_record_batch(message, schema).num_rows))
        return found

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __reduce__(self) -> tuple[type[Sliced], tuple[list[str], Features]]:
        return Sliced, (self._files, self.features)

    def cells(self, column: str, start: int, stop: int) -> list[Any]:
        """Return the cells of some rows."""
        found: list[Any] = []
        place = int(np.searchsorted(self._ends, start, "right"))
        while place < len(self._places) and self._starts[place] < stop:
            first = int(self._starts[place])
            batch = self._batch(place)
            begin, end = max(start, first), min(stop, int(self._ends[place]))
            found += batch.column(column).slice(begin - first, end - begin).to_pylist()
            place += 1
        return found

    def _batch(self, place: int) -> Any:
        import pyarrow as pa

        number, offset, _ = map(int, self._places[place])
        message = pa.ipc.read_message(pa.BufferReader(self._data[number].slice(offset)))
        return pa.ipc.read_record_batch(message, self.schemas[number])


def saved(folder: Path) -> Sliced | None:
    """Return the table that ``save_to_disk`` wrote, its batches never listed; None where it is not such a one."""
    import pyarrow as pa
    from datasets import DatasetInfo

    state = folder / "state.json"
    if not state.is_file():
        return None
    try:
        files = [str(folder / each["filename"]) for each in json.loads(state.read_text("utf-8"))["_data_files"]]
        features = DatasetInfo.from_directory(str(folder)).features
        return _matching(Sliced(files, features), list(features)) if files and features else None
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):  # damaged: ``datasets`` will say how
        return None


def _matching(found: Sliced, names: list[str]) -> Sliced | None:
    return found if all(list(each.names) == names for each in found.schemas) else None


def of(dataset: Dataset) -> Sliced | None:
    """Return the data set's files as a table; None where it is not just its files, one after the other.

    That is so when it lies in memory, or rows were chosen or put into another order.
    """
    import pyarrow as pa

    files = [each["filename"] for each in dataset.cache_files]
    if not files or dataset._indices is not None:  # noqa: SLF001  (nothing public says whether rows were chosen)
        return None
    try:
        found = Sliced(files, dataset.features)
    except pa.ArrowInvalid:  # of another kind than streams of record batches
        return None
    return _matching(found, dataset.column_names) if len(found) == len(dataset) else None
