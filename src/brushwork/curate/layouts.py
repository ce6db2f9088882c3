"""Writing data sets: pictures as they are, with their captions in the layout that is asked for.

    write(entries(rows), Path("out"), "webdataset")

txt: a text file beside each picture; jsonl, csv, parquet: one table; webdataset: tar shards; hf: a saved data set. The
folder appears whole or not at all.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from brushwork import images
from brushwork.errors import ConfigError, DataError
from brushwork.readers import masks
from brushwork.runs import check_free, replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from brushwork.readers import Row, Rows
    from brushwork.values import ImageBytes

Layout = Literal["txt", "jsonl", "csv", "parquet", "webdataset", "hf"]
LAYOUTS: tuple[Layout, ...] = ("txt", "jsonl", "csv", "parquet", "webdataset", "hf")
SHARD = 1000
"""Samples in a tar shard."""
SUFFIXES = {
    "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "DIB": ".bmp",
    "TIFF": ".tif", "AVIF": ".avif",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A picture to be written. ``name`` is its path in the new folder without a suffix, unique there."""

    name: str
    image: ImageBytes
    captions: tuple[str, ...]
    where: str
    """What it was called, for messages."""
    mask: ImageBytes | None = None


def entries(rows: Rows, places: Iterable[int] | None = None, home: str = "") -> Iterator[Entry]:
    """Yield rows as entries, under the names that they have below ``home``, else numbered."""
    taken: set[str] = set()
    for place in range(len(rows)) if places is None else places:
        row = rows[place]
        name = _name(row, place, home)
        unique = name
        for number in itertools.count(2):
            if unique.lower() not in taken:
                break
            unique = f"{name}-{number}"
        taken.add(unique.lower())
        given = tuple(text for text in (row.caption, *row.others) if text)
        yield Entry(unique, row.image, given, row.name, row.mask)


def _name(row: Row, place: int, home: str) -> str:
    """Return the path of a picture's file below a folder without its suffix, or its number."""
    prefix = f"{home.rstrip('/')}/"
    if not home or not row.name.startswith(prefix) or ".." in row.name:
        return f"{place:08}"
    return str(PurePosixPath(row.name.removeprefix(prefix)).with_suffix(""))


def write(each: Iterable[Entry], out: Path, layout: Layout, *, shard: int = SHARD) -> int:
    """Write a data set to a new folder; return how many pictures it has.

    Args:
        each: What to write.
        out: The folder; must be free.
        layout: One of ``LAYOUTS``.
        shard: Samples in a tar shard.

    Raises:
        DataError: A picture cannot be read.
        ConfigError: The layout cannot hold what there is: several captions of a picture, or masks.
    """
    check_free(out)
    with replacing(out) as temporary:
        temporary.mkdir(parents=True)
        if layout == "txt":
            return _texts(each, temporary)
        if layout == "webdataset":
            return _shards(each, temporary, shard)
        return _saved(each, temporary) if layout == "hf" else _table(each, temporary, layout)


def _texts(each: Iterable[Entry], folder: Path) -> int:
    count = 0
    for entry in each:
        path = _picture(entry, folder)
        if entry.captions:
            path.with_suffix(".txt").write_text(f"{_one(entry, 'txt')}\n", "utf-8")
        count += 1
    return count


def _picture(entry: Entry, folder: Path) -> Path:
    """Write a picture's own bytes, under a name that says what they are."""
    data = entry.image.read()
    path = folder / f"{entry.name}{suffix(data, entry.where)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if entry.mask is not None:
        path.with_name(f"{path.stem}{masks.ENDING}").write_bytes(entry.mask.read())
    return path


def suffix(data: bytes, where: str) -> str:
    """Return the suffix of what some bytes really are.

    Raises:
        DataError: They are no picture.
    """
    with images.inspect(io.BytesIO(data), where) as image:
        kind = SUFFIXES.get(image.format or "")
    if kind is None:
        message = f"{where}: a picture in {image.format} has no place in a data set. Save it as PNG."
        raise DataError(message)
    return kind


def _one(entry: Entry, layout: str) -> str:
    if len(entry.captions) > 1:
        message = (
            f"{entry.where} has {len(entry.captions)} captions, and {layout} holds one for each picture. "
            f"Use jsonl, parquet, webdataset or hf."
        )
        raise ConfigError(message)
    return entry.captions[0] if entry.captions else ""


def _cell(captions: Sequence[str]) -> str | list[str] | None:
    """Return captions as a table holds them."""
    return list(captions) if len(captions) > 1 else captions[0] if captions else None


def _table(each: Iterable[Entry], folder: Path, layout: str) -> int:
    rows: list[dict[str, Any]] = []
    for entry in each:
        name = _picture(entry, folder).relative_to(folder).as_posix()
        rows.append({"file_name": name, "text": _one(entry, "csv") if layout == "csv" else _cell(entry.captions)})
    write_table(rows, folder / f"metadata.{layout}")
    return len(rows)


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows as JSON lines, CSV or Parquet, by the path's suffix."""
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [row.get("text") for row in rows]
        if any(isinstance(text, list) for text in texts):  # a column has one type
            lists = [text if isinstance(text, list) else [text] if text else [] for text in texts]
            rows = [row | {"text": each} for row, each in zip(rows, lists, strict=True)]
        pq.write_table(pa.Table.from_pylist(list(rows)), path)


def _shards(each: Iterable[Entry], folder: Path, size: int) -> int:
    count = 0
    waiting = iter(each)
    for number in itertools.count():
        part = list(itertools.islice(waiting, size))
        if not part:
            return count
        with tarfile.open(folder / f"{number:06}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for entry in part:
                _add(tar, f"{count:08}", entry)
                count += 1
    raise AssertionError


def _add(tar: tarfile.TarFile, key: str, entry: Entry) -> None:
    if entry.mask is not None:
        message = f"{entry.where} has a mask, which tar shards have no place for. Use another layout."
        raise ConfigError(message)
    data = entry.image.read()
    members = {suffix(data, entry.where): data}
    if len(entry.captions) > 1:
        members[".json"] = json.dumps({"text": list(entry.captions)}, ensure_ascii=False).encode()
    elif entry.captions:
        members[".txt"] = entry.captions[0].encode()
    for ending, content in members.items():
        info = tarfile.TarInfo(f"{key}{ending}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _saved(each: Iterable[Entry], folder: Path) -> int:
    """Write what ``datasets.load_from_disk`` opens."""
    import tempfile

    from datasets import Dataset, Features, Image, Value
    from datasets.utils import logging

    every = list(each)
    several = any(len(entry.captions) > 1 for entry in every)
    masked = any(entry.mask is not None for entry in every)
    features = {"image": Image(), "text": [Value("string")] if several else Value("string")}

    def rows() -> Iterator[dict[str, Any]]:
        for entry in every:
            caption = list(entry.captions) if several else _cell(entry.captions)
            row = {"image": {"bytes": entry.image.read(), "path": None}, "text": caption}
            mask = None if entry.mask is None else {"bytes": entry.mask.read(), "path": None}
            yield {**row, "mask": mask} if masked else row

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory(prefix="brushwork-") as cache:
            kinds = Features({**features, "mask": Image()} if masked else features)
            Dataset.from_generator(rows, features=kinds, cache_dir=cache).save_to_disk(str(folder))
    finally:
        if shown:
            logging.enable_progress_bar()
    return len(every)
