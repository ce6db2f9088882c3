"""Where torch's files have their pickle and their numbers: a zip (since 1.6) or one pickle after the other (before).

    kind = recognise(path)                          # "zip", "legacy", "safetensors", "html" ...
    tree, storages = open_zip(path)

The numbers are read by their place in the file; nothing is unpacked to the disk, and no name in a zip is a path here.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.formats.pickles.machine import Name, Refused, follow

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MOST_PICKLE = 1 << 28
"""A pickle without its numbers is some megabytes, even with an optimizer's."""
MOST_ENTRIES = 1_000_000
ITEM_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
"""torch's classes of storages, and the names of their numbers in a safetensors file."""
KNOWN = (
    (b"PK\x03\x04", "zip"),
    (b"\x80", "legacy"),
    (b"\x1f\x8b", "gzip"),
    (b"Rar!", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"GGUF", "gguf"),
    (b"version https://git-lfs", "git-lfs pointer"),
)


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers: their type, how many, and where they are in the file."""

    dtype: str
    count: int
    data: memoryview

    @property
    def item(self) -> int:
        """The bytes of one number."""
        return ITEM_SIZES[self.dtype]


def recognise(path: Path) -> str:
    """Return what a file is, by its first bytes; its name says nothing."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "empty"
    return _by_magic(head) or _by_layout(head, path.stat().st_size)


def _by_magic(head: bytes) -> str | None:
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "html"
    return next((kind for magic, kind in KNOWN if head.startswith(magic)), None)


def _by_layout(head: bytes, size: int) -> str:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= size - 8:  # noqa: PLR2004  (the shortest JSON object)
        return "safetensors"
    if head[257:262] == b"ustar":
        return "tar"
    if head.lstrip().startswith((b"{", b"[")):
        return "json"
    return "legacy" if head[:1] in b"(]}c" else "unknown"


def read(path: Path, kind: str) -> Any:
    """Return what the pickle of a file describes, each ``Storage`` with its numbers.

    Raises:
        Refused: It is damaged or no checkpoint.
    """
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _zip(path, mapped) if kind == "zip" else _legacy(mapped)


def _zip(path: Path, mapped: memoryview) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, len(mapped))
    # zipfile says by NotImplementedError that an archive is of a later version than it reads.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        message = f"its zip is damaged ({error})"
        raise Refused(message) from error
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        message = f"it is a zip with {len(pickles)} data.pkl; torch's has one"
        raise Refused(message)
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in entries:
        message = "it is a TorchScript program, not a checkpoint"
        raise Refused(message)
    order = entries.get(f"{folder}byteorder")
    if order is not None and bytes(_stored(mapped, order)) != b"little":
        message = "its numbers are big-endian; save it again on another machine"
        raise Refused(message)
    data = bytes(_stored(mapped, entries[pickles[0]]))

    def persistent(key: Any) -> Storage:
        dtype, name, count = _storage(key)
        entry = entries.get(f"{folder}data/{name}")
        if entry is None:
            message = f"its pickle speaks of numbers {name!r} that are not in it"
            raise Refused(message)
        return _cut(dtype, count, _stored(mapped, entry), name)

    return follow(io.BytesIO(data), persistent)


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name, after refusing what torch never writes and zip bombs are made of."""
    infos = archive.infolist()
    if len(infos) > MOST_ENTRIES:
        message = f"its zip has {len(infos):,} entries"
        raise Refused(message)
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
        message = "its zip is compressed or encrypted, which torch's never is; unpack and pack it again without"
        raise Refused(message)
    if sum(info.file_size for info in infos) > size:
        message = "its zip claims to hold more than the file is long"
        raise Refused(message)
    names = {info.filename: info for info in infos}
    if len(names) < len(infos):
        message = "its zip has two entries of one name"
        raise Refused(message)
    for name, info in names.items():
        if name.endswith("data.pkl") and info.file_size > MOST_PICKLE:
            message = f"its pickle is {info.file_size:,} bytes long"
            raise Refused(message)
    return names


def _stored(mapped: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of an entry, from behind its own header."""
    head = bytes(mapped[info.header_offset : info.header_offset + 30])
    if len(head) < 30 or head[:4] != b"PK\x03\x04":  # noqa: PLR2004  (the length of that header)
        message = "its zip points to an entry that is not there"
        raise Refused(message)
    name, extra = struct.unpack("<HH", head[26:30])
    start = info.header_offset + 30 + name + extra
    data = mapped[start : start + info.file_size]
    if len(data) != info.file_size:
        message = "its zip was cut off"
        raise Refused(message)
    return data


def _storage(key: Any) -> tuple[str, str, int]:
    """Return the type, name and count that a persistent id means."""
    shape = isinstance(key, tuple) and len(key) >= 5 and key[0] == "storage"  # noqa: PLR2004  (torch's five)
    if not shape or not isinstance(key[1], Name) or not isinstance(key[4], int) or key[4] < 0:
        message = "its pickle points to something outside of it that is no storage"
        raise Refused(message)
    if key[1].module not in ("torch", "torch.cuda", "torch.storage") or key[1].name not in STORAGES:
        message = f"its numbers are a {key[1]}, which is not read"
        raise Refused(message)
    if len(key) > 5 and key[5] is not None:  # noqa: PLR2004  (a part of a storage: before torch 0.4)
        message = "its numbers are parts of others; it is older than torch 0.4"
        raise Refused(message)
    return STORAGES[key[1].name], str(key[2]), key[4]


def _cut(dtype: str, count: int, data: memoryview, name: str) -> Storage:
    if count * ITEM_SIZES[dtype] > len(data):
        message = f"its numbers {name!r} are cut off: {len(data):,} of {count * ITEM_SIZES[dtype]:,} bytes"
        raise Refused(message)
    return Storage(dtype, count, data[: count * ITEM_SIZES[dtype]])


def _legacy(mapped: memoryview) -> Any:
    """Read five pickles, then the numbers: for each storage, in the order of the fifth, a length and so many."""
    file = _View(mapped)
    none: Any = None
    if follow(file, lambda _: none) != MAGIC or follow(file, lambda _: none) != PROTOCOL:  # type: ignore[arg-type]
        message = "it is a pickle, but not one of torch's; what it holds are no tensors"
        raise Refused(message)
    system = follow(file, lambda _: none)  # type: ignore[arg-type]
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        message = "its numbers are big-endian; save it again on another machine"
        raise Refused(message)
    wanted: dict[str, _Later] = {}

    def persistent(key: Any) -> _Later:
        dtype, name, count = _storage(key)
        return wanted.setdefault(name, _Later(dtype, count))

    tree = follow(file, persistent)  # type: ignore[arg-type]
    keys = follow(file, lambda _: none)  # type: ignore[arg-type]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        message = "its list of numbers is damaged"
        raise Refused(message)
    for key in keys:
        later = wanted.get(key)
        count = int.from_bytes(file.read(8), "little", signed=True)
        if later is None or count < 0 or count != later.count:
            message = f"its numbers {key!r} are not those that its pickle speaks of"
            raise Refused(message)
        size = count * ITEM_SIZES[later.dtype]
        later.found = _cut(later.dtype, count, mapped[file.place : file.place + size], key)
        file.place += size
    return tree


class _Later:
    """A storage whose numbers come at the end of the file."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.found: Storage | None = None


class _View:
    """A file that reads from memory and says where it stands."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.place = data, 0

    def read(self, count: int = -1) -> bytes:
        end = len(self.data) if count < 0 else self.place + count
        found = bytes(self.data[self.place : min(end, self.place + MOST_PICKLE)])
        self.place += len(found)
        return found

    def readline(self) -> bytes:
        line = bytearray()
        while byte := self.read(1):
            line += byte
            if byte == b"\n" or len(line) > 1 << 16:
                break
        return bytes(line)


def storage_of(value: Any) -> Storage | None:
    """Return the storage that a persistent id stood for, if it was one and its numbers are there."""
    found = value.found if isinstance(value, _Later) else value
    return found if isinstance(found, Storage) else None
