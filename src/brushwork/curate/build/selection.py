"""Choosing rows: every row of the metadata gets a code, 0 for those that are to be fetched, and these are written out.

    chosen = select(config, find(config.metadata), state)
    chosen.counts()                           # {"": 1200, "resolution": 300, ...}
    for rows in chosen.parts(100): ...        # tables of at most 100 rows: id, url, caption, license

The tables are read by DuckDB as a stream; what is kept in memory is one byte for each row, and even that as a file.
Everything lies in one folder and is there completely when ``selection.json`` is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.curate.build import criteria, expressions
from brushwork.curate.build.tables import ID, View, database, describe
from brushwork.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from brushwork.curate.build.settings import BuildConfig

CODES = np.uint8
FIXED = ("", "no-url", "no-caption", "url-twice", "caption-twice")
"""Reasons by their codes; the criteria follow."""
KEYS = {"url": "split_part(url, '#', 1)", "caption": "lower(trim(caption))"}
"""What rows must not share; a URL's fragment is never sent to the server."""
AT_ONCE = 50_000


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
        for start in range(0, len(codes), 10 * AT_ONCE):
            totals += np.bincount(codes[start : start + 10 * AT_ONCE], minlength=len(self.reasons))
        return {reason: int(count) for reason, count in zip(self.reasons, totals, strict=True)}

    def parts(self, size: int) -> Iterator[pa.Table]:
        """Yield the rows to be fetched in order, at most ``size`` at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for place in range(len(self.tables)):
            with pq.ParquetFile(_candidates(self.folder, place)) as file:
                for batch in file.iter_batches(batch_size=size):
                    if batch.num_rows:
                        yield pa.Table.from_batches([batch])


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
    folder.mkdir(parents=True, exist_ok=True)
    with database(tables, folder, config.memory) as connection:
        views = [describe(connection, path, config.columns) for path in tables]
        chosen = _choose(connection, config, views, folder)
        for key in config.filter.dedupe:
            _drop_repeats(connection, chosen, key)
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


def _conditions(connection: duckdb.DuckDBPyConnection, config: BuildConfig, view: View) -> list[tuple[str, str]]:
    """Return (reason, condition) for a table: what each row must be, in order."""
    fixed = [("no-url", "trim(url) <> ''"), ("no-caption", "trim(caption) <> ''")]
    named = list(criteria.conditions(config.filter, view.roles))
    where = [
        (f"where: {' '.join(each.split())}", expressions.check(connection, each, view.columns))
        for each in config.filter.where
    ]
    return [*fixed, *named, *where]


def _choose(
    connection: duckdb.DuckDBPyConnection, config: BuildConfig, views: Sequence[View], folder: Path
) -> Selection:
    """Write the codes of all rows and, for each table, the rows that pass."""
    import duckdb

    rows: list[int] = []
    reasons = list(FIXED)
    with (folder / "codes.bin").open("wb") as codes:
        for place, view in enumerate(views):
            wanted = _conditions(connection, config, view)
            reasons += [reason for reason, _ in wanted if reason not in reasons]
            cases = " ".join(f"WHEN ({each}) IS NOT TRUE THEN {reasons.index(reason)}" for reason, each in wanted)
            source = f"({view.query(sum(rows))})"
            coded = folder / "coded.parquet"
            licence = "license" if "license" in view.roles else "CAST(NULL AS VARCHAR) AS license"
            passing = " AND ".join(f"({each})" for _, each in wanted)
            try:
                _copy(connection, f"SELECT CAST(CASE {cases} ELSE 0 END AS UTINYINT) AS code FROM {source}", coded)  # noqa: S608  (checked)
                columns = f"CAST({ID} AS BIGINT) AS id, trim(url) AS url, caption, {licence}"
                _copy(connection, f"SELECT {columns} FROM {source} WHERE {passing}", _candidates(folder, place))  # noqa: S608  (checked)
            except duckdb.Error as error:
                message = f"{view.path} cannot be filtered ({str(error).splitlines()[0]})."
                raise DataError(message) from error
            rows.append(_append(codes, coded))
    return Selection(folder, tuple(view.path for view in views), tuple(rows), tuple(reasons))


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    connection.execute(f"COPY ({query}) TO {criteria.literal(str(path))} (FORMAT parquet, COMPRESSION snappy)")


def _append(codes: Any, coded: Path) -> int:
    """Append the codes of a table to the file of all, and return how many."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(coded) as file:
        for batch in file.iter_batches(batch_size=10 * AT_ONCE):
            codes.write(batch.column(0).to_numpy(zero_copy_only=False).astype(CODES).tobytes())
        count: int = file.metadata.num_rows
    coded.unlink()
    return count


def _candidates(folder: Path, place: int) -> Path:
    return folder / f"candidates-{place:05d}.parquet"


def _drop_repeats(connection: duckdb.DuckDBPyConnection, chosen: Selection, key: str) -> None:
    """Keep the first of the rows that share a key."""
    import pyarrow.parquet as pq

    if not sum(chosen.rows):
        return
    firsts, every = chosen.folder / "firsts.parquet", chosen.folder / "candidates-*.parquet"
    # Grouped by 128 bits of each key, which is shorter than the key; DuckDB turns to the disk where memory ends.
    groups = f"md5_number_lower({KEYS[key]}), md5_number_upper({KEYS[key]})"
    _copy(
        connection,
        f"SELECT min(id) AS id FROM read_parquet({criteria.literal(str(every))}) GROUP BY {groups}",  # noqa: S608  (constants)
        firsts,
    )
    kept = np.zeros(sum(chosen.rows), np.bool_)
    with pq.ParquetFile(firsts) as file:
        for batch in file.iter_batches(batch_size=AT_ONCE, columns=["id"]):
            kept[batch.column(0).to_numpy()] = True
    firsts.unlink()
    codes = np.memmap(chosen.folder / "codes.bin", CODES, "r+")
    for place in range(len(chosen.tables)):
        _keep(_candidates(chosen.folder, place), kept, codes, CODES(FIXED.index(f"{key}-twice")))
    codes.flush()


def _keep(path: Path, kept: Any, codes: Any, code: Any) -> None:
    """Rewrite a file of candidates with those that are kept; the others get a code."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = path.with_suffix(".part")
    with pq.ParquetFile(path) as file, pq.ParquetWriter(temporary, file.schema_arrow) as writer:
        for batch in file.iter_batches(batch_size=AT_ONCE):
            ids = batch.column(0).to_numpy()
            staying = kept[ids]
            codes[ids[~staying]] = code
            writer.write_batch(batch.filter(pa.array(staying)))
    temporary.replace(path)
