"""WebDataset shards: tar files whose members of one name are one sample (``0001.jpg``, ``0001.txt``, ``0001.json``).

    rows = read("shards/{000000..000007}.tar")
    rows[0].caption, rows[0].image.read()

The headers are read once, in order; a picture is then read where it lies in its file, so shards need not be unpacked,
and a sample costs four bytes of memory. The caption is the text in ``.txt`` or ``.caption``, else a key of ``.json``.
"""

# A path is a plain string here, as in brushwork.readers.folder.
# ruff: noqa: PTH111, PTH112, PTH113, PTH118, PTH119, PTH123, PTH207

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from brushwork.errors import DataError, listing
from brushwork.readers import Row, clean, clean_all, columns, first, others
from brushwork.readers.folder import PICTURES
from brushwork.readers.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brushwork.readers import Captions

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
TEXTS = ("txt", "caption")


@dataclass(frozen=True, slots=True)
class Member:
    """A picture inside a tar file that is not compressed."""

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DataError: The file cannot be read, or has become shorter.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            message = f"{self.path}: the file cannot be read ({error.strerror})"
            raise DataError(message) from error
        if len(data) < self.size:
            message = f"{self.path}: the file ends within a picture, at byte {self.offset + len(data)}"
            raise DataError(message)
        return data


class ShardRows:
    """The samples of all shards."""

    def __init__(self, paths: list[str], rows: Spool, notes: list[str]) -> None:
        self._paths, self._rows = paths, rows
        self.notes: Sequence[str] = notes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        shard, name, offset, size, cell = self._rows[index]
        captions = tuple(cell) if isinstance(cell, list) else cell
        path = self._paths[shard]
        return Row(f"{path}:{name}", Member(path, offset, size), first(captions), others=others(captions))

    def captions(self) -> Iterator[str | None]:
        """Yield every picture's first caption in order."""
        return (cell[0] if isinstance(cell, list) else cell for *_, cell in self._rows)


def is_shards(path: str) -> bool:
    """Return whether a path names tar files: one, several by ``{000..007}`` or ``*``, or a folder with nothing else."""
    if path.endswith((".tar", ".tar.gz", ".tgz")):
        return True
    if not os.path.isdir(path):
        return False
    try:
        with os.scandir(path) as entries:  # glob would hold every name of a folder of pictures
            return any(each.name.endswith(".tar") and not each.name.startswith(".") for each in entries)
    except OSError:
        return False  # who reads the folder says that it cannot be listed


def expand(path: str) -> list[str]:
    """Return the shards that a path names, in order.

    >>> expand("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']

    Raises:
        DataError: There are none, or it is an address or compressed.
    """
    if "://" in path or path.startswith("pipe:"):
        message = f"data.path: {path!r} is an address. Shards are read from a disk: copy or mount them here."
        raise DataError(message)
    if path.endswith((".gz", ".tgz")):
        message = f"data.path: {path!r} is compressed, so nothing in it can be found quickly. Unpack it: gunzip ..."
        raise DataError(message)
    braces = BRACES.search(path)
    if braces:
        low, high = braces.groups()
        numbers = range(int(low), int(high) + 1)
        return [
            each
            for number in numbers
            for each in expand(f"{path[: braces.start()]}{number:0{len(low)}}{path[braces.end() :]}")
        ]
    if os.path.isdir(path):
        path = os.path.join(glob.escape(path), "*.tar")
    if not glob.has_magic(path):
        return [path]
    found = sorted(glob.glob(path))
    if not found:
        message = f"data.path: no file matches {path!r}."
        raise DataError(message)
    return found


def read(path: str, caption_column: str | None = None) -> ShardRows:
    """Read the headers of all shards that ``path`` names.

    Args:
        path: A tar file, ``{000..007}`` or ``*`` in its name, or a folder of them.
        caption_column: The key of the captions in ``.json`` members; default: text members, else a usual key.

    Raises:
        DataError: A shard is missing or damaged, there are no pictures, or the captions cannot be found.
    """
    paths = expand(os.path.expanduser(path))
    missing = [each for each in paths if not os.path.isfile(each)]
    if missing:
        message = f"data.path: {len(missing)} of {len(paths)} shards of {path!r} are not there: {listing(missing)}."
        raise DataError(message)
    rows, finder, bare = Spool(), _Captions(path, caption_column), 0
    for number, shard in enumerate(paths):
        for name, (offset, size), cell in _samples(shard, finder):
            if size:
                rows.append([number, name, offset, size, cell])
            else:
                bare += 1
    if not len(rows):
        message = f"{path}: no pictures in {len(paths)} shards. Members are read as {', '.join(sorted(PICTURES))}."
        raise DataError(message)
    return ShardRows(paths, rows, [f"{path}: {bare} samples have no picture and are left out."] if bare else [])


class _Captions:
    """Finds the caption among the texts of a sample; which key of ``.json`` it is, is decided at the first."""

    def __init__(self, where: str, asked: str | None) -> None:
        self.where, self.asked = where, asked
        self.key: str | None = None

    def find(self, texts: dict[str, bytes], where: str) -> Captions:
        for suffix in TEXTS if self.asked is None else ():
            if suffix in texts:
                return clean(_decode(texts[suffix], where), where)
        if "json" not in texts:
            return None
        row = _json(texts["json"], where)
        if self.key is None:
            candidates = [name for name, value in row.items() if isinstance(value, (str, list))]
            self.key = columns.choose(list(row), candidates, self.asked, columns.CAPTIONS, self.where)
        return clean_all(row.get(self.key), where)


def _samples(shard: str, captions: _Captions) -> Iterator[tuple[str, tuple[int, int], Captions]]:
    """Yield (name, (offset, size) of the picture, caption) of each sample; a size of 0: it has no picture."""
    with open(shard, "rb") as file:
        name: str | None = None
        place = (0, 0)
        texts: dict[str, bytes] = {}
        for info in _members(shard, file):
            key, suffix = _split(info.name)
            if name is not None and key != name:
                yield name, place, captions.find(texts, f"{shard}:{name}")
                place, texts = (0, 0), {}
            name = key
            if f".{suffix}" in PICTURES:
                place = place if place[1] else (info.offset_data, info.size)
            elif suffix in (*TEXTS, "json"):
                texts[suffix] = os.pread(file.fileno(), info.size, info.offset_data)
        if name is not None:
            yield name, place, captions.find(texts, f"{shard}:{name}")


def _members(shard: str, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the files of a tar in order, without keeping what has been read."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                if info.isfile() and not os.path.basename(info.name).startswith("."):
                    yield info
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
            if file.tell() >= os.fstat(file.fileno()).st_size and not _ends(file):
                message = f"{shard}: the file ends without the two empty blocks that end a tar file. Copy it again."
                raise DataError(message)
    except tarfile.TarError as error:
        message = f"{shard} is not a readable tar file ({error})."
        raise DataError(message) from error


def _ends(file: BinaryIO) -> bool:
    """Return whether a tar file ends as it should, with empty blocks."""
    size = os.fstat(file.fileno()).st_size
    return size >= 2 * tarfile.BLOCKSIZE and not any(os.pread(file.fileno(), 2 * tarfile.BLOCKSIZE, size - 1024))


def _split(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last part, as WebDataset does.

    >>> _split("cats/a.seg.PNG")
    ('cats/a', 'seg.png')
    """
    folder, slash, file = name.rpartition("/")
    key, _, suffix = file.partition(".")
    return f"{folder}{slash}{key}", suffix.lower()


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{where}: the text is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x})."
        raise DataError(message) from error


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(_decode(data, where))
    except json.JSONDecodeError as error:
        message = f"{where}: the .json is not JSON ({error.msg} at column {error.colno})."
        raise DataError(message) from error
    if not isinstance(row, dict):
        message = f"{where}: the .json is not an object."
        raise DataError(message)
    return row
