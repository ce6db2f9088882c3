"""Features kept in a file, so that numbers can be computed again without the encoder and without the pictures.

    store = FeatureStore(folder, encoder)
    vectors = store.of(pictures)       # only pictures never seen before are encoded
    store.save()

The key is the hash of a picture's pixels: two equal pictures share one vector, so what did not change measures
exactly zero, whatever batch it was encoded in.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.runs import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from brushwork.encoders import Encoder, Features

AT_ONCE = 64
"""Pictures held in memory at the same time."""


def image_hash(image: Image) -> str:
    """Return the SHA-256 of a picture's size and RGB pixels; metadata and file format do not matter."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


class FeatureStore:
    """The image features of one encoder in ``<folder>/<encoder>-<revision>-<preprocessing>.npz``."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        """Read what the folder already holds for this very encoder."""
        self.encoder = encoder
        word = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in encoder.name)[-40:]
        self.path = folder / f"{word.strip('-.')}-{encoder.revision}-{encoder.preprocessing}.npz"
        self._known: dict[str, Features] = {}
        if self.path.is_file():
            with np.load(self.path, allow_pickle=False) as stored:
                self._known = dict(zip(stored["sha256"].tolist(), stored["features"], strict=True))

    def of(self, images: Iterable[Image], texts: Sequence[str] | None = None) -> tuple[Features, list[str]]:
        """Return the features (N, D) of pictures, or (N, H, W), or (N,) words or scores, and their hashes.

        With ``texts``, one for each picture, the encoder is asked for pairs and the hash is of both.
        """
        hashes: list[str] = []
        for batch in _batches(images):
            said = [None] * len(batch) if texts is None else texts[len(hashes) : len(hashes) + len(batch)]
            keys = [_key(image, text) for image, text in zip(batch, said, strict=True)]
            new = {key: place for place, key in enumerate(keys) if key not in self._known}
            if new:
                shown = [batch[place] for place in new.values()]
                pairs: Any = self.encoder  # only one that reads pairs is given texts
                found = (
                    self.encoder.encode_images(shown)
                    if texts is None
                    else pairs.encode_pairs(shown, [said[place] for place in new.values()])
                )
                self._known.update(zip(new, found, strict=True))
            hashes += keys
        return np.stack([self._known[key] for key in hashes]), hashes

    def save(self, **also: NDArray[np.generic]) -> None:
        """Write the store; ``also`` names further arrays to keep in it (text features, ...)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shape = next(reversed(self._known.values())).shape  # others are of pictures of another size, from before
        known = {key: vector for key, vector in self._known.items() if vector.shape == shape}
        keys = np.array(sorted(known))
        vectors = np.stack([known[key] for key in keys.tolist()])
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, sha256=keys, features=vectors, **also)


def _key(image: Image, text: str | None) -> str:
    own = image_hash(image)
    return own if text is None else hashlib.sha256(f"{own}:{text}".encode()).hexdigest()


def _batches(images: Iterable[Image]) -> Iterator[list[Image]]:
    batch: list[Image] = []
    for image in images:
        batch.append(image)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
