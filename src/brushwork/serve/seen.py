"""What is on a picture, by the embedded captioner, which is loaded when it is first asked."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

    from brushwork.captioners import Captioner


def describe(image: PIL.Image.Image) -> str:
    """Return the captioner's words."""
    return _captioner().describe([image.convert("RGB")])[0]


@functools.cache
def _captioner() -> Captioner:
    from brushwork.captioners import load_captioner

    return load_captioner("mini-captioner")
