"""Choosing rows: every row of the metadata gets a code, 0 for those that are to be fetched, and these are written out.

    chosen = select(config, find(config.metadata), state)
    chosen.counts()                           # {"": 1200, "resolution": 300, ...}
    for rows in chosen.parts(100): ...        # tables of at most 100 rows: id, url, caption, license

The tables are read by DuckDB as a stream; what is kept in memory is one byte for each row, and even that as a file.
Everything lies in one folder and is there completely when ``selection.json`` is.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from brushwork.curate.build import criteria, expressions
from brushwork.curate.build.tables import ID, View, batches, copy, database, describe
from brushwork.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from brushwork.curate.build.settings import BuildConfig

CODES = np.uint8
FIXED = ("", "no-url", "no-caption", "url-twice", "caption-twice")
"""Reasons by their codes; the criteria follow."""
KEYS = {"url": "split_part(url, '#', 1)", "caption": "lower(trim(caption))"}
"""What rows must not share; a URL's fragment is never sent to the server."""
AT_ONCE = 500_000


@dataclass(frozen=True)
class Selection:
    """Which rows of which tables are to be fetched, and why not the others."""

    folder: Path
    tables: tuple[Path, ...]
    rows: tuple[int, ...]
    """Of each table."""
    reasons: tuple[str, ...]
    """By code."""

    @property
    def codes(self) -> Any:
        """One code for each row, as an array in a file."""
        return np.memmap(self.folder / "codes.bin", CODES, "r") if sum(self.rows) else np.empty(0, CODES)

    def counts(self) -> dict[str, int]:
        """Return how many rows each reason has; those to be fetched under ``""``."""
        totals = np.zeros(len(self.reasons), np.int64)
        codes = self.codes
        for start in range(0, len(codes), AT_ONCE):
            totals += np.bincount(codes[start : start + AT_ONCE], minlength=len(self.reasons))
        return {reason: int(count) for reason, count in zip(self.reasons, totals, strict=True)}

    def parts(self, size: int) -> Iterator[pa.Table]:
        """Yield the rows to be fetched in order, at most ``size`` at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for place in range(len(self.tables)):
            with pq.ParquetFile(_candidates(self.folder, place)) as file:
                for batch in batches(file):
                    for start in range(0, batch.num_rows, size):
                        yield pa.Table.from_batches([batch.slice(start, size)])


def select(config: BuildConfig, tables: Sequence[Path], folder: Path) -> Selection:
    """Choose rows, or return what was chosen here before.

    Raises:
        DataError: A table cannot be read, or is another than before.
        ConfigError: A criterion or expression does not fit the tables.
    """
    marker = folder / "selection.json"
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in tables]
    if marker.is_file():
        record = json.loads(marker.read_text("utf-8"))
        if record["tables"] != stamps:
            message = "The metadata changed since this build was begun. Begin again with another --out."
            raise DataError(message)
        return Selection(folder, tuple(tables), tuple(record["rows"]), tuple(record["reasons"]))
    chosen = decide(config, tables, folder)
    _gather(config, chosen)
    record = {"tables": stamps, "rows": chosen.rows, "reasons": chosen.reasons}
    temporary = marker.with_suffix(".part")
    temporary.write_text(json.dumps(record), "utf-8")
    temporary.replace(marker)
    return chosen


def check(config: BuildConfig, tables: Sequence[Path], scratch: Path) -> None:
    """Raise what :func:`select` would raise about columns, criteria and expressions, without reading the tables."""
    with database(tables, scratch, config.memory) as connection:
        for path in tables:
            _conditions(connection, config, describe(connection, path, config.columns))


Conditions = list[tuple[str, str]]
"""(reason, what a row must be), in order."""


def _conditions(
    connection: duckdb.DuckDBPyConnection, config: BuildConfig, view: View
) -> tuple[Conditions, Conditions]:
    """Return the conditions on numbers and labels, and those that look into long texts."""
    named = list(criteria.conditions(config.filter, view.roles))
    where = [
        (f"where: {' '.join(each.split())}", expressions.check(connection, each, view.columns))
        for each in config.filter.where
    ]
    cheap = [each for each in named if each[0] not in criteria.OF_TEXTS]
    texts = [("no-url", "trim(url) <> ''"), ("no-caption", "trim(caption) <> ''")]
    return cheap, [*texts, *(each for each in named if each not in cheap), *where]


def decide(config: BuildConfig, tables: Sequence[Path], folder: Path) -> Selection:
    """Give every row its code by the criteria on numbers and labels; addresses and captions are not even read.

    Raises:
        DataError: A table cannot be read.
        ConfigError: A criterion or expression does not fit the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[int] = []
    reasons = list(FIXED)
    with database(tables, folder, config.memory) as connection, (folder / "codes.bin").open("wb") as codes:
        for path in tables:
            view = describe(connection, path, config.columns)
            cheap, dear = _conditions(connection, config, view)
            reasons += [reason for reason, _ in [*cheap, *dear] if reason not in reasons]
            with _blaming(path):
                rows.append(_code_all(connection, view, cheap, reasons, folder, codes))
    return Selection(folder, tuple(tables), tuple(rows), tuple(reasons))


def _gather(config: BuildConfig, chosen: Selection) -> None:
    """Write the rows that pass so far, and look at their addresses and captions."""
    with database(chosen.tables, chosen.folder, config.memory) as connection:
        with (chosen.folder / "codes.bin").open("r+b") as codes:
            for place, path in enumerate(chosen.tables):
                view = describe(connection, path, config.columns)
                conditions = _conditions(connection, config, view)
                target, start = _candidates(chosen.folder, place), sum(chosen.rows[:place])
                with _blaming(path):
                    _code_some(connection, view, conditions, chosen.reasons, start, target, codes)
        for key in config.filter.dedupe:
            _drop_repeats(connection, chosen, key)


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Say which table it was that DuckDB could not read to its end."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        message = f"{path} cannot be filtered ({str(error).splitlines()[0]})."
        raise DataError(message) from error


def _code_all(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    cheap: Conditions,
    reasons: Sequence[str],
    folder: Path,
    codes: BinaryIO,
) -> int:
    """Append a code for every row of a table, by the cheap conditions; return how many there are."""
    import pyarrow.parquet as pq

    coded = folder / "coded.parquet"
    copy(connection, f"SELECT {_code(cheap, reasons)} AS code FROM ({view.query(0)})", coded)  # noqa: S608  (checked)
    with pq.ParquetFile(coded) as file:
        codes.writelines(_numbers(batch.column(0), CODES).tobytes() for batch in batches(file))
        count: int = file.metadata.num_rows
    codes.flush()
    coded.unlink()
    return count


def _code_some(
    connection: duckdb.DuckDBPyConnection,
    view: View,
    conditions: tuple[Conditions, Conditions],
    reasons: Sequence[str],
    start: int,
    path: Path,
    codes: BinaryIO,
) -> None:
    """Write the rows that pass the cheap conditions, and code those among them that fail the others."""
    cheap, dear = conditions
    licence = "license" if "license" in view.roles else "CAST(NULL AS VARCHAR) AS license"
    columns = f"CAST({ID} AS BIGINT) AS id, trim(url) AS url, caption, {licence}, {_code(dear, reasons)} AS code"
    passing = " AND ".join(f"({each})" for _, each in cheap) or "true"
    copy(connection, f"SELECT {columns} FROM ({view.query(start)}) WHERE {passing}", path)  # noqa: S608  (checked)

    def judge(batch: pa.RecordBatch) -> Any:
        return _numbers(batch.column("code"), CODES)

    _keep(path, judge, codes, ("id", "url", "caption", "license"))


def _code(conditions: Conditions, reasons: Sequence[str]) -> str:
    """Return the expression for the code of the first condition that a row does not fulfil."""
    cases = " ".join(f"WHEN ({each}) IS NOT TRUE THEN {reasons.index(reason)}" for reason, each in conditions)
    return f"CAST({f'CASE {cases} ELSE 0 END' if cases else '0'} AS UTINYINT)"


def _numbers(column: Any, kind: Any) -> Any:
    """Return a column of numbers without gaps as an array; Arrow's own way would import pandas."""
    return np.frombuffer(column.buffers()[1], kind)[column.offset : column.offset + len(column)]


def _mask(values: Any) -> Any:
    """Return truth values as Arrow has them; its own conversion would import pandas."""
    import pyarrow as pa

    bits = np.packbits(values, bitorder="little").tobytes()
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def _candidates(folder: Path, place: int) -> Path:
    return folder / f"candidates-{place:05d}.parquet"


def _drop_repeats(connection: duckdb.DuckDBPyConnection, chosen: Selection, key: str) -> None:
    """Keep the first of the rows that share a key."""
    import pyarrow.parquet as pq

    firsts, every = chosen.folder / "firsts.parquet", chosen.folder / "candidates-*.parquet"
    # Grouped by 128 bits of each key, which is shorter than the key; DuckDB turns to the disk where memory ends.
    groups = f"md5_number({KEYS[key]})"
    copy(
        connection,
        f"SELECT min(id) AS id FROM read_parquet({criteria.literal(str(every))}) GROUP BY {groups}",  # noqa: S608  (constants)
        firsts,
    )
    kept = np.zeros(sum(chosen.rows), np.bool_)
    with pq.ParquetFile(firsts) as file:
        for batch in batches(file):
            kept[_numbers(batch.column(0), np.int64)] = True
    firsts.unlink()
    code = CODES(FIXED.index(f"{key}-twice"))

    def judge(batch: pa.RecordBatch) -> Any:
        return np.where(kept[_numbers(batch.column("id"), np.int64)], CODES(0), code)

    with (chosen.folder / "codes.bin").open("r+b") as codes:
        for place in range(len(chosen.tables)):
            _keep(_candidates(chosen.folder, place), judge, codes, ("id", "url", "caption", "license"))


def _keep(path: Path, judge: Callable[[pa.RecordBatch], Any], codes: BinaryIO, columns: Sequence[str]) -> None:
    """Rewrite a file of candidates with those whose code is 0; the codes of the others are noted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_suffix(".part")
    with pq.ParquetFile(path) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        noted = np.memmap(codes, CODES, "r+") if file.metadata.num_rows else np.empty(0, CODES)
        with pq.ParquetWriter(temporary, schema) as writer:
            for batch in batches(file):
                found = judge(batch)
                noted[_numbers(batch.column("id"), np.int64)] = found
                staying = batch.filter(_mask(found == 0)) if found.any() else batch
                writer.write_batch(staying.select(list(columns)))
    pa.default_memory_pool().release_unused()
    temporary.replace(path)
