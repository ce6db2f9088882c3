"""Captioners say in a line what a picture shows: for writing captions, and for asking whether a picture shows it.

    captioner = load_captioner("mini-captioner")   # or a hub id, or a folder: BLIP, GIT, or an encoder with a decoder
    captioner.describe(pictures)                   # ["an engraving of a dog", ...]

Decoding is greedy: the same pictures give the same words. `mini-captioner` knows the things, backgrounds and manners of
the embedded model and data sets, and says nothing else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.errors import ModelError
from brushwork.loading import hash_json, hash_weights, load_parts, model_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

MINI_CAPTIONER = Path(__file__).parent / "assets" / "mini-captioner"
KINDS = ("blip", "git", "vision-encoder-decoder")
"""Model types that caption a picture without being asked a question: Li et al. 2022 (arXiv:2201.12086), Wang et al.
2022 (arXiv:2205.14100), and a picture encoder with a text decoder."""
PREFIXES = ("captioner", "blip")
LENGTH = 30
"""A caption has at most so many tokens, which is what `mini-captioner` can write."""


@dataclass(frozen=True)
class Captioner:
    """A model that describes pictures.

    Args:
        name: What it is called: ``mini-captioner``, a hub id or a folder.
        revision: A hash of its weights.
        preprocessing: A hash of how it prepares a picture.
        model: The transformers model, in evaluation mode.
        processor: Its image processor.
        tokenizer: Its tokenizer.
        batch_size: So many pictures at a time.
    """

    name: str
    revision: str
    preprocessing: str
    model: Any
    processor: Any
    tokenizer: Any
    batch_size: int = 16

    def describe(self, images: Sequence[Image]) -> list[str]:
        """Return one caption for each picture, of any mode and size."""
        import torch

        captions: list[str] = []
        for start in range(0, len(images), self.batch_size):
            batch = [image.convert("RGB") for image in images[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"].to(self.model.device)
            with torch.inference_mode():
                tokens = self.model.generate(pixel_values=pixels, max_new_tokens=LENGTH, num_beams=1, do_sample=False)
            captions += [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        return captions


def load_captioner(name: str, *, device: str = "cpu", key: str = "captioner") -> Captioner:
    """Load a captioner.

    Args:
        name: ``mini-captioner``, a folder, or a hub id; ``captioner:`` or ``blip:`` may stand before it.
        device: Where it computes.
        key: The setting that names it, for messages.

    Raises:
        ModelError: It is not there, is incomplete, or is no captioner.
    """
    from transformers import AutoImageProcessor, AutoModelForImageTextToText

    prefix, _, rest = name.partition(":")
    place = rest if prefix in PREFIXES else name
    place = str(MINI_CAPTIONER) if place == "mini-captioner" else place
    kind = model_type(place, name, key)
    wanted = ("blip",) if prefix == "blip" else KINDS
    if kind not in wanted:
        message = f"{key}: {name!r} is a {kind!r} model; a captioner is one of {', '.join(wanted)}."
        raise ModelError(message)
    # Pinned to Pillow, as the judge is: captions must not depend on torchvision's presence.
    processing = functools.partial(AutoImageProcessor.from_pretrained, backend="pil")
    model, processor, tokenizer = load_parts(place, name, key, AutoModelForImageTextToText, processing, device=device)
    return Captioner(name, hash_weights(model), hash_json(processor.to_dict()), model, processor, tokenizer)
