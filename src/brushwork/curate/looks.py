"""What one look at a picture says: its size and format, whether it shows anything, its hashes; or why it is broken.

    look = at(data, "cat.jpg")
    look.width, look.error, look.emptiness

A data set's looks are gathered by ``over`` in threads, one decoded picture each, and are light enough to keep.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from brushwork import images
from brushwork.curate import hashing
from brushwork.errors import DataError
from brushwork.progress import bar
from brushwork.readers.folder import PICTURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image

    from brushwork.readers import Row, Rows

Emptiness = Literal["", "blank", "white", "text"]
FLAT = 2.0
"""Grey levels: a picture that varies less than this shows nothing."""
WHITE, MOSTLY = 244, 0.97
"""A picture is all but white where so large a share of it is brighter than this."""
PAGE_SIDE = 256
LEAST_LINES = 6
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. ``error`` says why there is nothing to see; then sizes are 0 and hashes mean nothing."""

    name: str
    error: str = ""
    bytes: int = 0
    digest: str = ""
    format: str = ""
    width: int = 0
    height: int = 0
    """As people see it, turned by its EXIF orientation."""
    remarks: tuple[str, ...] = ()
    """turned, animated, transparent, CMYK, 16 bits, profile, suffix."""
    hashes: tuple[int, int] = (0, 0)
    emptiness: Emptiness = ""


def at(data: bytes, name: str) -> Look:
    """Look at an encoded picture."""
    size, digest = len(data), images.digest(data)
    try:
        with images.inspect(io.BytesIO(data), name) as opened:
            form, remarks = opened.format or "", _remarks(opened, name)
        image = images.decode(data, name=name)
    except DataError as error:
        return Look(name, str(error).removeprefix(f"{name}: "), size, digest)
    return Look(
        name, "", size, digest, form, *image.size, remarks,
        hashing.perceptual_hash(hashing.luminance(image)), emptiness(image),
    )  # fmt: skip


def _remarks(image: Image, name: str) -> tuple[str, ...]:
    """Return what is unusual about how a picture is stored."""
    suffix = os.path.splitext(name)[1].lower().lstrip(".")  # noqa: PTH122  (a name, not a path)
    usual = {"jpeg": "jpg", "tif": "tiff", "mpo": "jpg", "dib": "bmp", "jpeg2000": "jp2"}
    said, is_ = usual.get(suffix, suffix), usual.get((image.format or "").lower(), (image.format or "").lower())
    told = {
        "turned": images.orientation(image) != 1,
        "animated": getattr(image, "is_animated", False),
        "transparent": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        "CMYK": image.mode == "CMYK",
        "16 bits": image.mode.startswith("I"),
        "profile": bool(image.info.get("icc_profile")),
        "suffix": f".{suffix}" in PICTURES and said != is_,
    }
    return tuple(name for name, holds in told.items() if holds)


def emptiness(image: Image) -> Emptiness:
    """Say in which way a picture shows nothing to learn from, if it does.

    blank: one colour; white: all but white; text: lines of writing on paper, as a scanned page has them.
    """
    factor = max(1, max(image.size) // PAGE_SIDE)
    grey = np.asarray((image.reduce(factor) if factor > 1 else image).convert("L"))
    if grey.std() < FLAT and np.ptp(np.asarray(image.resize((8, 8))), axis=(0, 1)).max() < 4 * FLAT:
        return "blank"
    if (grey >= WHITE).mean() > MOSTLY:
        return "white"
    return "text" if _is_page(grey) else ""


def _is_page(grey: NDArray[np.uint8]) -> bool:
    """Return whether dark lines of about one height alternate with empty ones on bright paper."""
    low, high = np.percentile(grey, (1, 75))
    if high - low < 64:  # noqa: PLR2004  (a quarter of the range: ink on paper has more contrast)
        return False
    ink = grey < (low + high) / 2
    if not 0.01 < ink.mean() < 0.35:  # noqa: PLR2004  (less is no page, more is no paper)
        return False
    rows = ink.mean(axis=1) > 0.02  # noqa: PLR2004  (specks do not fill a line)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
    heights, gaps = edges[1::2] - edges[::2], edges[2::2] - edges[1:-1:2]
    if len(heights) < LEAST_LINES:
        return False
    # Lines of writing: none much higher than the others, and together they cover the page from top to bottom.
    usual = np.median(heights)
    even = bool(((heights < 2 * usual + 1).mean() > 0.8) and (gaps < 6 * usual + 2).mean() > 0.8)  # noqa: PLR2004
    wide = np.median([_extent(ink[first:last]) for first, last in zip(edges[::2], edges[1::2], strict=True)])
    return even and usual < len(grey) / 8 and float(wide) > grey.shape[1] / 3


def _extent(line: NDArray[np.bool_]) -> int:
    """Return how wide the ink of a line reaches."""
    columns = np.flatnonzero(line.any(axis=0))
    return int(columns[-1] - columns[0]) if len(columns) else 0


def over(rows: Rows, what: str = "looking at pictures") -> Iterator[Look]:
    """Look at every picture of a data set, in order."""

    def look(row: Row) -> Look:
        try:
            return at(row.image.read(), row.name)
        except DataError as error:
            return Look(row.name, str(error).removeprefix(f"{row.name}: "))

    with bar(what, len(rows)) as advance, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), AT_ONCE):
            part = [rows[index] for index in range(start, min(start + AT_ONCE, len(rows)))]
            for each in pool.map(look, part):
                advance()
                yield each


@dataclass
class Gathered:
    """Looks that a source's ``verify`` takes at its pictures while it checks them; by name, from several threads."""

    looks: dict[str, Look] = field(default_factory=dict)

    def __call__(self, name: str, image: Image) -> None:
        """Look at a picture that is decoded already."""
        hashes = hashing.perceptual_hash(hashing.luminance(image))
        self.looks[name] = Look(name, "", 0, "", "", *image.size, (), hashes, emptiness(image))
