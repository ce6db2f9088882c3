"""Pictures that clients send: looked at before they are decoded, and written anew, so that nothing else gets in."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from brushwork.errors import DataError

if TYPE_CHECKING:
    import PIL.Image

FORMATS = ("PNG", "JPEG", "WEBP")


def decode(data: bytes, most_pixels: int, what: str = "image") -> PIL.Image.Image:
    """Return a picture, turned as its EXIF says, in RGB, RGBA or L.

    Raises:
        DataError: It is none, of another format, truncated, or larger than ``most_pixels``.
    """
    import PIL.Image
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, most_pixels, what)
                image.load()
                turned = ImageOps.exif_transpose(image)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        message = f"{what}: this is no picture that can be read; send PNG, JPEG or WebP"
        raise DataError(message) from None
    mode = "RGBA" if turned.has_transparency_data else "L" if turned.mode in ("1", "L", "I;16", "I") else "RGB"
    return turned.convert(mode)


def _check_size(image: PIL.Image.Image, most_pixels: int, what: str) -> None:
    if image.width * image.height > most_pixels:
        size = f"{image.width}x{image.height}"
        message = f"{what}: {size} is more than the limit of this server, {most_pixels} pixels"
        raise DataError(message)


def encode(image: PIL.Image.Image) -> bytes:
    """Return a picture as PNG without whatever else its file held."""
    buffer = io.BytesIO()
    clean = image.copy()
    clean.info.clear()
    clean.save(buffer, format="PNG")
    return buffer.getvalue()
