"""Pictures small enough to travel inside a page: data URIs, in whichever of PNG and WebP is smaller.

    uri = data_uri(image, side=256)

Such a page is one file that needs no network.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PIXEL_ART = 128
"""Pictures up to this side are kept pixel for pixel: the page enlarges them, and a codec's artefacts with them."""


def data_uri(image: Image, side: int) -> str:
    """Return a picture as a ``data:`` URI, scaled down so that its longer side is at most ``side``."""
    from PIL import Image as Images

    image = image.convert("RGB")
    if max(image.size) > side:
        image.thumbnail((side, side), Images.Resampling.LANCZOS)
    if max(image.size) <= PIXEL_ART:
        png, webp = _encode(image, "PNG", optimize=True), _encode(image, "WEBP", lossless=True, method=4)
        forms = [("png", png), ("webp", webp)]
    else:
        forms = [("webp", _encode(image, "WEBP", quality=84, method=4))]
    kind, data = min(forms, key=lambda form: len(form[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encode(image: Image, form: str, **settings: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()
