"""Captions as features: the words that a captioner finds for a picture, and where a CLIP model puts those words.

captions = Captions.load("mini-captioner")
captions.encode_images(pictures)                          # (N,) of str
CaptionTexts.of(captions, clip).encode_images(pictures)   # (N, D): cos(caption, prompt) is its faithfulness
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from brushwork.captioners import load_captioner
from brushwork.features import image_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from brushwork.captioners import Captioner
    from brushwork.encoders import Clip, Features, Serves

STYLE_REFERENCES = 48
"""So many training pictures are described to find the words of their style."""


@dataclass(frozen=True)
class Captions:
    """A captioner as an encoder: each picture is described once."""

    captioner: Captioner
    serves: tuple[Serves, ...] = ("captions",)
    references: int = STYLE_REFERENCES
    _said: dict[str, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def load(name: str, *, device: str = "cpu", key: str = "validation.captioner") -> Captions:
        """Load a captioner by name.

        Raises:
            ModelError: It is not there, or is no captioner.
        """
        return Captions(load_captioner(name, device=device, key=key))

    @property
    def name(self) -> str:
        """The captioner's."""
        return self.captioner.name

    @property
    def revision(self) -> str:
        """The captioner's."""
        return self.captioner.revision

    @property
    def preprocessing(self) -> str:
        """The captioner's."""
        return self.captioner.preprocessing

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.str_]:
        """Return (N,)."""
        keys = [image_hash(image) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._said}
        self._said.update(zip(new, self.captioner.describe(list(new.values())), strict=True))
        return np.array([self._said[key] for key in keys])


@dataclass(frozen=True)
class CaptionTexts:
    """What a CLIP model reads in the captions: pictures and prompts in its space of texts."""

    captions: Captions
    clip: Clip
    name: str
    revision: str
    preprocessing: str
    serves: tuple[Serves, ...] = ("caption_text",)
    references: int = 0
    scale: float = 1.0

    @staticmethod
    def of(captions: Captions, clip: Clip) -> CaptionTexts:
        """Put the two together; both name and revision say so."""
        name, revision, preprocessing = (
            f"{getattr(captions, each)}+{getattr(clip, each)}" for each in ("name", "revision", "preprocessing")
        )
        return CaptionTexts(captions, clip, name, revision, preprocessing)

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return the unit vectors (N, D) of the pictures' captions."""
        said = self.captions.encode_images(images).tolist()
        different = list(dict.fromkeys(said))
        vectors = dict(zip(different, self.clip.encode_texts(different)[0], strict=True))
        return np.stack([vectors[text] for text in said])

    def encode_texts(self, texts: Sequence[str]) -> tuple[Features, list[str]]:
        """Return the unit vectors (N, D) of prompts, and which were too long."""
        return self.clip.encode_texts(texts)
