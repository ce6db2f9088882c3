"""Pictures as text in JSON: base64 with or without a ``data:`` prefix in, bare base64 out."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from brushwork.errors import DataError
from brushwork.serve import uploads

if TYPE_CHECKING:
    import PIL.Image

    from brushwork.serve.engine import Engine


def picture_of(text: str, most_pixels: int, what: str) -> PIL.Image.Image:
    """Return the picture in a base64 text.

    Raises:
        DataError: It is an address (nothing is fetched), no base64, or no picture.
    """
    return uploads.decode(bytes_of(text, what), most_pixels, what)


def bytes_of(text: str, what: str) -> bytes:
    """Return what a base64 text holds.

    Raises:
        DataError: It is an address (nothing is fetched), or no base64.
    """
    if text.lower().startswith(("http:", "https:", "file:", "ftp:")):
        message = f"{what}: nothing is fetched from addresses; send the picture itself as base64"
        raise DataError(message)
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        message = f"{what}: this is no base64"
        raise DataError(message) from None


def keep(engine: Engine, image: PIL.Image.Image) -> str:
    """Put a picture into the store and return its id."""
    return engine.store.add_upload(uploads.encode(image), image.width, image.height)


def base64_of(data: bytes) -> str:
    """Return bytes as bare base64."""
    return base64.b64encode(data).decode()
