"""Pictures with captions to look at: named files, or the eight of ``skimage.data`` that CLIP was introduced with.

pictures = from_files([Path("cat.png")], ["a cat"])
pictures = from_skimage()
similarity(load_clip("mini-clip"), pictures)        # cosines, pictures by captions
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brushwork.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

    from brushwork.encoders import Clip

SKIMAGE = {
    "page": "a page of text about segmentation",
    "chelsea": "a facial photo of a tabby cat",
    "astronaut": "a portrait of an astronaut with the American flag",
    "rocket": "a rocket standing on a launchpad",
    "motorcycle_right": "a red motorcycle standing in a garage",
    "camera": "a person looking at a camera on a tripod",
    "horse": "a black-and-white silhouette of a horse",
    "coffee": "a cup of coffee on a saucer",
}
"""The pictures and captions of OpenAI's notebook "Interacting with CLIP" (MIT licence)."""


@dataclass(frozen=True)
class Captioned:
    """A picture, its name and its caption."""

    name: str
    caption: str
    image: PIL.Image.Image


def from_files(paths: Sequence[Path], captions: Sequence[str]) -> list[Captioned]:
    """Read pictures; a caption that is not given is read from a ``.txt`` beside the picture.

    Raises:
        UserError: A picture or a caption is missing.
    """
    from brushwork import images

    if captions and len(captions) != len(paths):
        message = (
            f"--caption: there are {len(captions)} captions for {len(paths)} pictures; give one for each, or none."
        )
        raise ConfigError(message)
    found = []
    for place, path in enumerate(paths):
        if not path.is_file():
            message = f"--image: there is no picture {str(path)!r}."
            raise UserError(message)
        beside = path.with_suffix(".txt")
        caption = captions[place] if captions else beside.read_text("utf-8").strip() if beside.is_file() else ""
        if not caption:
            message = f"--image: {path} has no caption. Add --caption for each picture, or write it into {beside.name}."
            raise ConfigError(message)
        found.append(Captioned(path.stem, caption, images.decode(path.read_bytes(), name=str(path))))
    return found


def from_skimage() -> list[Captioned]:
    """Return the eight pictures that scikit-image brings along.

    Raises:
        ConfigError: scikit-image is not installed, or lacks one of them.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        message = "--skimage: these pictures come with scikit-image. Install it: pip install scikit-image"
        raise ConfigError(message)
    from brushwork import images

    found, data = [], Path(package.submodule_search_locations[0]) / "data"
    for name, caption in SKIMAGE.items():
        path = next((each for each in sorted(data.glob(f"{name}.*")) if each.suffix in (".png", ".jpg")), None)
        if path is None:
            message = f"--skimage: this scikit-image does not bring the picture {name!r}. Install 0.24 or later."
            raise ConfigError(message)
        found.append(Captioned(name, caption, images.decode(path.read_bytes(), name=name)))
    return found


def similarity(clip: Clip, pictures: Sequence[Captioned]) -> NDArray[np.float64]:
    """Return the cosine of each picture with each caption, (N, N)."""
    from brushwork.formulas.similarity import similarity_matrix

    features = clip.encode_images([each.image for each in pictures])
    return similarity_matrix(features, clip.encode_texts([each.caption for each in pictures])[0])
