"""``classifier:WHICH``: probabilities of an image classifier's classes, for the Inception Score with other eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.extractors.dinov2 import pil
from brushwork.loading import hash_json, hash_weights, load_parts, model_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from brushwork.encoders import Features, Serves


@dataclass(frozen=True)
class Classifier:
    """A model that says which class a picture is of."""

    name: str
    revision: str
    preprocessing: str
    model: Any
    processor: Any
    batch_size: int = 16
    serves: tuple[Serves, ...] = ("classes",)
    references: int = 0

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return probabilities (N, K)."""
        import torch

        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = [image.convert("RGB") for image in images[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"].to(self.model.device)
            with torch.inference_mode():
                parts.append(self.model(pixel_values=pixels).logits.float().softmax(dim=-1).cpu().numpy())
        probabilities: Features = np.concatenate(parts)
        return probabilities


def load(place: str, name: str, *, device: str, key: str) -> tuple[Classifier, ...]:
    """Load a model.

    Raises:
        ModelError: It is not there, is incomplete, or is no image classifier.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model_type(place, name, key)  # says in its own words what is not there
    model, processor, _ = load_parts(
        place, name, key, AutoModelForImageClassification, pil(AutoImageProcessor), device=device, tokenizer=False
    )
    return (Classifier(name, hash_weights(model), hash_json(processor.to_dict()), model, processor),)
