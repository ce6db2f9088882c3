"""Writing the data set: pictures in a folder or in shards, its table, and the manifest of every row.

A file is written elsewhere and moved to its place, so what has its name is whole; what is there already stays. The same
parts give the same bytes, whenever and however often they are written.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from brushwork.curate import hashing
from brushwork.curate.build.selection import FIXED
from brushwork.curate.build.tables import ID, batches, copy, database, describe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from brushwork.curate.build.selection import Selection
    from brushwork.curate.build.settings import BuildConfig

REPEATED = {*FIXED[3:], "same-file", "near-duplicate"}
REFUSED = {"opt-out", "private-address", "bad-url"}
UNFIT = {"html", "not-an-image", "empty", "damaged", "too-small", "too-long", "too-many-bytes", "too-many-pixels"}
CARRIED = (
    "final_url", "content_type", "last_modified", "bytes", "sha256",
    "width", "height", "original_width", "original_height",
)  # fmt: skip
"""Columns of a part that the manifest has too."""


def fate(reason: str, *, chosen: bool) -> str:
    """Return the word for a row's fate.

    >>> fate("", chosen=True), fate("resolution", chosen=False), fate("http-404", chosen=True)
    ('kept', 'filtered', 'failed')
    """
    if not reason:
        return "kept"
    if reason in REPEATED:
        return "repeated"
    if not chosen:
        return "filtered"
    return "refused" if reason in REFUSED else "unfit" if reason in UNFIT else "failed"


@dataclass
class Tally:
    """What the data card says of the pictures that were kept."""

    hosts: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


def repeats(paths: Sequence[Path], threshold: int | None) -> dict[int, tuple[str, str]]:
    """Return row -> (reason, which row it repeats) for pictures whose file or look came before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["id", "reason", "sha256", "hash", "mirrored_hash"]
    tables = [pq.read_table(path, columns=columns, filters=[("reason", "=", "")]) for path in paths]
    table = pa.concat_tables(tables) if tables else None
    if not table:
        return {}
    ids = table.column("id").to_numpy()
    digests = np.concatenate([_digests(chunk) for chunk in table.column("sha256").chunks])
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    same = first[which.reshape(-1)]
    found = {
        int(ids[place]): ("same-file", str(ids[same[place]])) for place in np.flatnonzero(same != np.arange(len(ids)))
    }
    if threshold is None:
        return found
    places = np.flatnonzero(same == np.arange(len(ids)))
    hashes = np.stack([table.column(name).to_numpy()[places] for name in columns[3:]], axis=1)
    like = places[hashing.first_of(hashes, threshold)]
    return found | {
        int(ids[a]): ("near-duplicate", str(ids[b]))
        for a, b in zip(places.tolist(), like.tolist(), strict=True)
        if a != b
    }


def _digests(column: pa.Array) -> Any:
    """Return 128 bits of each SHA-256, which are enough to tell files apart, as an array."""
    return np.array([bytes.fromhex(each[:32]) for each in column.to_pylist()], "V16")


def write_pictures(config: BuildConfig, paths: Sequence[Path], state: Path, out: Path) -> Tally:
    """Write the pictures and their table, and ``results.parquet`` in ``state``: what the manifest needs of each row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    left_out = repeats(paths, config.image.near_duplicates)
    kinds: dict[str, type[_Folder | _Shards]] = {"folder": _Folder, "webdataset": _Shards}
    writer = kinds[config.output.format](config, state, out)
    tally = Tally()
    schema = pa.schema([*[(name, pa.string()) for name in ("reason", "detail", "path", "phash")]])
    fields = [("id", pa.int64()), *[(each.name, each.type) for each in schema], *_carried_fields()]
    with pq.ParquetWriter(state / "results.parquet", pa.schema(fields)) as results:
        for path in paths:
            records = []
            for row in pq.read_table(path).to_pylist():
                if not row["reason"] and row["id"] in left_out:
                    row["reason"], row["detail"] = left_out[row["id"]]
                row["phash"] = f"{row['hash']:016x}" if row["hash"] is not None else None
                row["path"] = None if row["reason"] else _take(writer, row, tally)
                records.append(row)
            results.write_table(pa.Table.from_pylist(records, schema=results.schema))
    writer.close()
    return tally


def _carried_fields() -> list[tuple[str, Any]]:
    from brushwork.curate.build.parts import schema

    return [(name, schema().field(name).type) for name in CARRIED]


def _take(writer: _Folder | _Shards, row: dict[str, Any], tally: Tally) -> str:
    tally.hosts[(urlsplit(row["final_url"]).hostname or "").lower()] += 1
    tally.licenses[row["license"] or "not stated"] += 1
    tally.bytes += len(row["image"])
    return writer.add(row)


def _about(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is written beside a picture."""
    names = ("url", "license", "width", "height", "original_width", "original_height", "sha256", "phash")
    return {name: row[name] for name in names if row[name] is not None}


class _Folder:
    """``images/00000/000000012.jpg`` and ``metadata.jsonl``."""

    def __init__(self, config: BuildConfig, state: Path, out: Path) -> None:
        self._config, self._out, self._count = config, out, 0
        self._temporary = state / "picture"
        self._written = state / "metadata.jsonl"
        self._table = self._written.open("w", encoding="utf-8")

    def add(self, row: dict[str, Any]) -> str:
        folder = f"images/{self._count // self._config.output.shard_size:05d}"
        name = f"{folder}/{row['id']:09d}{self._config.image.suffix}"
        self._count += 1
        path = self._out / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.write_bytes(row["image"])
            self._temporary.replace(path)
        record = {"file_name": name, "text": " ".join(row["caption"].split()), **_about(row)}
        self._table.write(json.dumps(record, ensure_ascii=False) + "\n")
        return name

    def close(self) -> None:
        self._table.close()
        self._written.replace(self._out / "metadata.jsonl")


class _Shards:
    """``00000.tar`` and so on, each with a picture, its caption and a JSON file for every sample."""

    def __init__(self, config: BuildConfig, state: Path, out: Path) -> None:
        self._config, self._out, self._count = config, out, 0
        self._temporary = state / "shard.tar"
        self._shard: tarfile.TarFile | None = None

    def add(self, row: dict[str, Any]) -> str:
        size = self._config.output.shard_size
        if self._count % size == 0:
            self._finish()
            self._shard = tarfile.open(self._temporary, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  (closed in _finish)
        assert self._shard is not None
        self._count += 1
        key = f"{row['id']:09d}"
        caption = " ".join(row["caption"].split())
        files = {
            self._config.image.suffix: row["image"],
            ".json": json.dumps({"key": key, "caption": caption, **_about(row)}, ensure_ascii=False).encode(),
            ".txt": caption.encode(),
        }
        for suffix, data in files.items():
            member = tarfile.TarInfo(key + suffix)  # of no time and no owner: the same pictures are the same bytes
            member.size, member.mode = len(data), 0o644
            self._shard.addfile(member, io.BytesIO(data))
        return f"{(self._count - 1) // size:05d}.tar/{key}{self._config.image.suffix}"

    def _finish(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._temporary.replace(self._out / f"{(self._count - 1) // self._config.output.shard_size:05d}.tar")
            self._shard = None

    def close(self) -> None:
        self._finish()


def write_manifest(config: BuildConfig, selection: Selection, state: Path, path: Path) -> dict[str, int]:
    """Write every row of the metadata with its fate, in order, and return how many rows each (fate, reason) has.

    Returns:
        ``"kept"`` or ``"fate: reason"`` -> rows.
    """
    import pyarrow.parquet as pq

    counts: Counter[str] = Counter()
    results = _Results(state / "results.parquet")
    codes, start, writer = selection.codes, 0, None
    temporary = state / "manifest.parquet"
    with database(selection.tables, state, config.memory) as connection:
        for place, table in enumerate(selection.tables):
            view = describe(connection, table, config.columns)
            rows = state / "rows.parquet"
            licence = "license" if "license" in view.roles else "CAST(NULL AS VARCHAR) AS license"
            query = f"SELECT {ID} AS id, url, caption, {licence} FROM ({view.query(start)})"  # noqa: S608  (quoted)
            copy(connection, query, rows)
            with pq.ParquetFile(rows) as file:
                for batch in batches(file):
                    made = _manifest_rows(batch, table.name, start, selection, codes, results, counts)
                    writer = writer or pq.ParquetWriter(temporary, made.schema, compression="zstd")
                    writer.write_table(made)
            rows.unlink()
            start += selection.rows[place]
    if writer is not None:
        writer.close()
        temporary.replace(path)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _manifest_rows(
    batch: pa.RecordBatch,
    name: str,
    start: int,
    selection: Selection,
    codes: Any,
    results: _Results,
    counts: Counter[str],
) -> pa.Table:
    """Return some rows of the manifest."""
    import pyarrow as pa

    ids = batch.column("id").to_numpy()
    first = int(ids[0])
    assert (ids == np.arange(first, first + len(ids))).all(), "DuckDB keeps the order of rows"
    found = results.between(first, first + len(ids))
    places = np.full(len(ids), -1, np.int64)
    places[found.column("id").to_numpy() - first] = np.arange(len(found))
    taken = found.take(pa.array(places, mask=places < 0))
    coded = codes[first : first + len(ids)]
    reasons = [
        selection.reasons[code] or reason
        for code, reason in zip(coded.tolist(), taken.column("reason").to_pylist(), strict=True)
    ]
    fates = [fate(reason, chosen=not code) for code, reason in zip(coded.tolist(), reasons, strict=True)]
    counts.update(each if each == "kept" else f"{each}: {reason}" for each, reason in zip(fates, reasons, strict=True))
    words = pa.dictionary(pa.int32(), pa.string())
    return pa.table(
        {
            "file": pa.array([name] * len(ids)).cast(words),
            "row": pa.array(ids - start),
            "url": batch.column("url"),
            "caption": batch.column("caption"),
            "license": batch.column("license"),
            "fate": pa.array(fates).cast(words),
            "reason": pa.array(reasons).cast(words),
            **{column: taken.column(column) for column in ("detail", "path", "phash", *CARRIED)},
        }
    )


class _Results:
    """``results.parquet`` read once, from front to back."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        self._batches = batches(file)
        self._held: pa.Table = file.schema_arrow.empty_table()

    def between(self, start: int, stop: int) -> pa.Table:
        """Return the results of the rows from ``start`` up to but not including ``stop``; calls go upwards."""
        import pyarrow as pa

        while not len(self._held) or self._held.column("id")[-1].as_py() < stop:
            batch = next(self._batches, None)
            if batch is None:
                break
            self._held = pa.concat_tables([self._held, pa.Table.from_batches([batch])])
        ids = self._held.column("id").to_numpy()
        begin, end = np.searchsorted(ids, [start, stop])
        found, self._held = self._held.slice(begin, end - begin), self._held.slice(end)
        return found
