"""Captioners say in a line what a picture shows: for writing captions, and for asking whether a picture shows it.

    captioner = load_captioner("mini-captioner")   # or a hub id, or a folder: BLIP, GIT, or an encoder with a decoder
    captioner.describe(pictures)                   # ["an engraving of a dog", ...]

Decoding is greedy: the same pictures give the same words. `mini-captioner` knows the things, backgrounds and manners of
the embedded model and data sets, and says nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.encoders import hash_json, hash_weights, is_path, pretrained
from brushwork.errors import ModelError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

MINI_CAPTIONER = Path(__file__).parent / "assets" / "mini-captioner"
KINDS = ("blip", "git", "vision-encoder-decoder")
"""Model types that caption a picture without being asked a question: Li et al. 2022 (arXiv:2201.12086), Wang et al.
2022 (arXiv:2205.14100), and a picture encoder with a text decoder."""
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


def load_captioner(name: str, *, device: str = "cpu") -> Captioner:
    """Load a captioner.

    Args:
        name: ``mini-captioner``, a folder, or a hub id.
        device: Where it computes.

    Raises:
        ModelError: It is not there, is incomplete, or is no captioner.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    place = str(MINI_CAPTIONER) if name == "mini-captioner" else str(Path(name).expanduser()) if is_path(name) else name
    if is_path(name) and not (Path(place) / "config.json").is_file():
        message = f"captioner: {name!r} is not a model folder (no config.json in {place!r})."
        raise ModelError(message)
    try:
        kind = AutoConfig.from_pretrained(place).model_type
        if kind not in KINDS:
            message = f"captioner: {name!r} is a {kind!r} model; a captioner is one of {', '.join(KINDS)}."
            raise ModelError(message)
        model, lacking = pretrained(AutoModelForImageTextToText, place)
        # Pinned to Pillow, as the judge is: captions must not depend on torchvision's presence.
        processor = AutoImageProcessor.from_pretrained(place, backend="pil")
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        message = (
            f"captioner: {name!r} cannot be loaded: {reason}\n"
            f"Name a folder with a captioning model, or mini-captioner, which needs no network."
        )
        raise ModelError(message) from error
    if lacking:
        message = f"captioner: {name!r} lacks weights: {listing(lacking)}."
        raise ModelError(message)
    model = model.eval().requires_grad_(requires_grad=False).to(device)
    return Captioner(name, hash_weights(model), hash_json(processor.to_dict()), model, processor, tokenizer)
