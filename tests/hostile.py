"""A folder with everything that goes wrong in folders of pictures.

parts = make(tmp_path / "photos")           # file name -> what is expected of it: "", or a part of the error
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

GOOD = ""


def photograph(number: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Return smooth random colours, which have the spectrum of a photograph."""
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def bomb(side: int) -> bytes:
    """Return a PNG that says it has side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def make(folder: Path) -> dict[str, str]:
    """Write the folder; return for each picture's name a part of what is said against it, "" where it is good."""
    folder.mkdir(parents=True)
    said: dict[str, str] = {}

    def add(name: str, image: Image.Image, error: str = GOOD, **options: object) -> Path:
        image.save(folder / name, **options)
        said[name] = error
        return folder / name

    add("good.jpg", photograph(0))
    whole = add("truncated.jpg", photograph(1), "truncated").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    add("png-in-truth.jpg", photograph(2), format="PNG")
    add("printed.jpg", photograph(3).convert("CMYK"))
    add("deep.png", Image.fromarray(np.arange(96 * 72, dtype=np.uint16).reshape(72, 96) * 9))
    add("moving.gif", photograph(4).quantize(), save_all=True, append_images=[photograph(5).quantize()])
    palette = photograph(6).quantize(16)
    add("cut-out.png", palette, transparency=bytes([0] + [255] * 15))
    exif = Image.Exif()
    exif[0x0112] = 6
    add("turned.jpg", photograph(7), exif=exif)
    add("фото 写真 🐈.png", photograph(8))
    add(f"{'long' * 62}.png", photograph(9))
    add("blank.png", Image.new("RGB", (96, 72), "teal"))
    for name, data, error in (
        ("nothing.png", b"", "empty"),
        ("text-in-truth.jpg", b"this is no picture", "not a picture"),
        ("bomb.png", bomb(20_000), "decompression bomb"),
        ("pointer.png", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ):
        (folder / name).write_bytes(data)
        said[name] = error
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    said["nowhere.jpg"] = "cannot be read"
    (folder / "below").mkdir()
    (folder / "below" / "loop").symlink_to(folder)
    for name in said:
        (folder / name).with_suffix(".txt").write_text(f"a picture called {name[:20]}", "utf-8")
    (folder / "orphan.txt").write_text("of nothing", "utf-8")
    (folder / "phone.heic").write_bytes(b"x")
    (folder / "thumbs.db").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"x")
    return said
