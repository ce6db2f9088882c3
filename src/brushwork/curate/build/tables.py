"""Tables of metadata: which files, which columns hold what, and a DuckDB that can read these files and nothing else.

    tables = find(["laion/*.parquet"])
    with database(tables, scratch, megabytes=150) as connection:
        view = describe(connection, tables[0], {})
        connection.sql(f"SELECT {ID}, url, caption FROM ({view.query(start=0)})")

Every table is seen with the columns that brushwork knows by role (``url``, ``caption``, ``width`` ...) beside its own.
"""

from __future__ import annotations

import csv
import glob
import gzip
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.curate.build.criteria import literal
from brushwork.errors import ConfigError, DataError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

SPELLINGS = {
    "url": ("url", "image_url", "img_url", "link", "src"),
    "caption": ("text", "caption", "alt_text", "alt", "top_caption", "title", "prompt"),
    "width": ("width", "original_width", "image_width"),
    "height": ("height", "original_height", "image_height"),
    "language": ("language", "lang"),
    "similarity": (
        "similarity",
        "clip_similarity",
        "clip_similarity_vitb32",
        "clip_b32_similarity_score",
        "clip_score",
    ),
    "watermark": ("pwatermark", "watermark", "watermark_score"),
    "unsafe": ("punsafe", "nsfw", "unsafe", "nsfw_score", "nsfw_score_opennsfw2"),
    "aesthetic": ("aesthetic", "aesthetic_score", "aesthetic_score_laion_v2", "aesthetics_score"),
    "license": ("license", "licence"),
}
"""Of LAION, COYO-700M, DataComp and what img2dataset writes; the first that is there counts."""
NUMBERS = {"width", "height", "similarity", "watermark", "aesthetic"}
GROUP = 20_480
"""Rows in a row group that we write: what has to be in memory at once, by DuckDB and by Arrow."""
REQUIRED = ("url", "caption")
ID = "brushwork_row"
"""The number of a row over all tables; no table has a column of this name already."""
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")


def find(patterns: Sequence[str]) -> list[Path]:
    """Return the files that paths, folders and patterns name, each once, those of a pattern in order of their names.

    Raises:
        DataError: One names nothing, or a file of another kind.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            paths = sorted(each for each in path.rglob("*") if each.name.endswith(SUFFIXES))
        else:
            paths = [path] if path.is_file() else sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207  (absolute ones too)
        if not paths:
            message = (
                f"metadata: {pattern!r} names no file. Give Parquet or CSV files, or a pattern such as laion/*.parquet"
            )
            raise DataError(message)
        found |= dict.fromkeys(paths)
    for path in found:
        if not path.name.endswith(SUFFIXES):
            message = f"metadata: {path} is none of {', '.join(SUFFIXES)}."
            raise DataError(message)
    return list(found)


@contextmanager
def database(tables: Sequence[Path], scratch: Path, megabytes: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB in memory that reads ``tables``, writes below ``scratch``, and can do nothing else outside itself.

    Raises:
        UserError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        message = "`brushwork data build` needs DuckDB. Install it: pip install 'brushwork[data]'"
        raise UserError(message) from error
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{megabytes}MB",
        "temp_directory": str(scratch / "spilled"),
        # More threads cost more memory and, for tables of a few hundred thousand rows, half as much work again.
        "threads": 1,
    }
    with closing(duckdb.connect(config=settings)) as connection:
        connection.execute("SET allowed_paths = ?", [[str(path) for path in tables]])
        connection.execute("SET allowed_directories = ?", [[str(scratch)]])
        for line in (
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "allow_community_extensions = false",
            "enable_progress_bar = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {line}")
        yield connection


@dataclass(frozen=True)
class View:
    """One table with its columns by role."""

    path: Path
    read: str
    """The call that reads it."""
    row: str
    """The number of a row, from 0."""
    types: Mapping[str, str]
    """Column -> DuckDB's name of its type."""
    roles: Mapping[str, str]
    """Role -> column."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that expressions may name."""
        own = {name.lower() for name in self.types}
        return (*self.types, *(role for role in self.roles if role not in own))

    def query(self, start: int) -> str:
        """Return the query for the table's rows, in order, with their numbers: ``start`` and more."""
        # A column called WIDTH is the role width: SQL does not tell them apart, and the role's has the right type.
        own = [quoted(name) for name in self.types if name.lower() not in self.roles]
        roles = [f"{_typed(role, column, self.types[column])} AS {role}" for role, column in self.roles.items()]
        return f"SELECT {self.row} + {start} AS {ID}, {', '.join([*roles, *own])} FROM {self.read}"  # noqa: S608  (quoted)


def _typed(role: str, column: str, kind: str) -> str:
    """Return a column as its role needs it; a cast is dear, so none is made to the type that it has."""
    name = quoted(column)
    if kind == ("DOUBLE" if role in NUMBERS else "VARCHAR") and role != "unsafe":
        return name
    if role in NUMBERS or (role == "unsafe" and kind != "VARCHAR"):
        return f"TRY_CAST({name} AS DOUBLE)"
    if role == "unsafe":  # LAION-400M has words
        words = "WHEN 'unlikely' THEN 0.0 WHEN 'unsure' THEN 0.5 WHEN 'likely' THEN 1.0 WHEN 'nsfw' THEN 1.0"
        return f"coalesce(TRY_CAST({name} AS DOUBLE), CASE lower({name}) {words} END)"
    return f"CAST({name} AS VARCHAR)"


def copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write what a query finds to a Parquet file, in order."""
    options = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {GROUP}"
    connection.execute(f"COPY ({query}) TO {literal(str(path))} ({options})")


def batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file; Arrow's own iterator holds as much of a large file as there is memory."""
    for group in range(file.num_row_groups):
        yield from file.read_row_group(group, use_threads=False).to_batches()


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def describe(connection: duckdb.DuckDBPyConnection, path: Path, named: Mapping[Any, str]) -> View:
    """Look at a table's columns.

    Args:
        connection: Of :func:`database`.
        path: The table.
        named: Role -> column, where the user named it.

    Raises:
        DataError: It cannot be read, or has no column of addresses or captions.
        ConfigError: A named column is not there.
    """
    if path.name.endswith(".parquet"):
        import duckdb

        read, row = f"read_parquet({literal(str(path))}, file_row_number = true)", "file_row_number"
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(str(path))})").fetchall()  # noqa: S608  (quoted)
        except duckdb.Error as error:
            message = f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})."
            raise DataError(message) from error
        types = {str(each[0]): str(each[1]) for each in described}
    else:
        types = dict.fromkeys(_header(path), "VARCHAR")
        separator = r"\t" if ".tsv" in path.suffixes else ","
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in types)
        read = (
            f"read_csv({literal(str(path))}, auto_detect = false, header = true, delim = '{separator}', quote = '\"', "
            f"escape = '\"', null_padding = true, parallel = false, columns = {{{columns}}})"
        )
        row = "row_number() OVER () - 1"
    return View(path, read, row, types, _roles(path, list(types), named))


def _header(path: Path) -> tuple[str, ...]:
    """Return the names in a CSV file's first line."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter="\t" if ".tsv" in path.suffixes else ","), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path} cannot be read as CSV ({str(error).splitlines()[0]})."
        raise DataError(message) from error
    if len({name.lower() for name in names}) < len(names) or not all(names):
        message = f"{path}: the first line must name every column once; it is {', '.join(names) or 'empty'}."
        raise DataError(message)
    return tuple(names)


def _roles(path: Path, own: Sequence[str], named: Mapping[Any, str]) -> dict[str, str]:
    lowered = {name.lower(): name for name in own}
    roles = {}
    for role, spellings in SPELLINGS.items():
        if role in named:
            if named[role].lower() not in lowered:
                message = f"columns.{role}: {path} has no column {named[role]!r}.{nearest(named[role], own)}"
                raise ConfigError(message)
            roles[role] = lowered[named[role].lower()]
        else:
            found = [lowered[name] for name in spellings if name in lowered]
            roles |= {role: found[0]} if found else {}
    missing = [role for role in REQUIRED if role not in roles]
    if missing:
        message = (
            f"{path} has no column of {' or '.join(missing)}s. Its columns: {', '.join(own)}.\n"
            f"Say which one it is: columns.{missing[0]}=NAME"
        )
        raise DataError(message)
    return roles
