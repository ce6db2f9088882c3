"""The SHA-256 of files, as A1111 and the model hubs take it.

sha256(Path("model.safetensors"))               # of the whole file; several files count as one after the other
tensors_sha256(Path("lora.safetensors"))        # of what follows the header, so that editing that keeps the hash
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1 << 20


def sha256(*paths: Path, start: int = 0) -> str:
    """Return the hexadecimal digest of files, each from byte ``start`` on."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def tensors_sha256(path: Path) -> str:
    """Return the hexadecimal digest of a safetensors file without its header: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    return sha256(path, start=8 + length)
