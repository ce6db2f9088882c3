"""``dinov2:WHICH``: what a network that never read a word sees, for likeness of subjects (DINO-I) and distances.

Oquab et al. 2023, arXiv:2304.07193. DreamBooth's DINO-I is defined with ``dinov2:facebook/dino-vits16``, a ViTModel of
the first DINO. The feature is the class token of the last layer, not divided by its length, as distances want it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.encoders import EVERY_REFERENCE
from brushwork.errors import ModelError
from brushwork.loading import hash_json, hash_weights, load_parts, model_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from brushwork.encoders import Features, Serves

TYPES = ("dinov2", "dinov2_with_registers", "vit")


@dataclass(frozen=True)
class Dino:
    """A vision transformer's class tokens."""

    name: str
    revision: str
    preprocessing: str
    model: Any
    processor: Any
    batch_size: int = 16
    serves: tuple[Serves, ...] = ("dino", "features")
    references: int = EVERY_REFERENCE

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, D)."""
        import torch

        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = [image.convert("RGB") for image in images[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"].to(self.model.device)
            with torch.inference_mode():
                parts.append(self.model(pixel_values=pixels).last_hidden_state[:, 0].float().cpu().numpy())
        features: Features = np.concatenate(parts)
        return features


def load(place: str, name: str, *, device: str, key: str) -> tuple[Dino, ...]:
    """Load a model.

    Raises:
        ModelError: It is not there, is incomplete, or is of another kind.
    """
    from transformers import AutoImageProcessor, AutoModel

    kind = model_type(place, name, key)
    if kind not in TYPES:
        message = f"{key}: {name!r} is a {kind!r} model; it must be one of {', '.join(TYPES)}."
        raise ModelError(message)
    # dino-vits16 has no trained pooler, and the class token needs none.
    settings = {"add_pooling_layer": False} if kind == "vit" else {}
    parts = load_parts(place, name, key, AutoModel, pil(AutoImageProcessor), device=device, tokenizer=False, **settings)
    model, processor = parts[:2]
    return (Dino(name, hash_weights(model), hash_json(processor.to_dict()), model, processor),)


def pil(kind: Any) -> Any:
    """Return how a processor is loaded so that it prepares pictures with Pillow, whatever else is installed."""
    return lambda where: kind.from_pretrained(where, backend="pil")
