"""Encoders turn pictures and texts into features; metrics compute with features only.

    clip = load_clip("mini-clip")                    # or a hub id, or a folder with a transformers CLIPModel
    features = clip.encode_images(pictures)          # (N, D) float32, unit vectors
    texts, cut = clip.encode_texts(["a dog"])        # (1, D), and which texts were too long

A feature is kept with the encoder's name, the hash of its weights and of its preprocessing: without these a CLIP
similarity is not a number that anyone can compare.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from brushwork.errors import ModelError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from brushwork.config import Config

    Features = NDArray[np.float32]

MINI_CLIP = Path(__file__).parent / "assets" / "mini-clip"
DEFAULT_JUDGE = "openai/clip-vit-base-patch32"
LUMINANCE_SIDE = 256
OTHER_JUDGE = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
"""The automatic judge of what was trained to please ``DEFAULT_JUDGE``: other weights, from other data."""
EOS_TRAP = 0.99999
"""Texts whose features agree beyond this are the same to the model: its end-of-text token id is wrong."""


class Encoder(Protocol):
    """Turns pictures into features."""

    @property
    def name(self) -> str:
        """What it is called: a hub id, a folder, or one of ours."""

    @property
    def revision(self) -> str:
        """A hash of its weights."""

    @property
    def preprocessing(self) -> str:
        """A hash of how it prepares a picture."""

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, D), or (N, H, W) where features are pictures."""


class Colour:
    """Mean saturation and value (HSV) of a picture, each in [0, 1]: features that need no weights."""

    name, revision, preprocessing = "colour", "1", "hsv"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, 2)."""
        return np.array([_saturation_and_value(np.asarray(image.convert("RGB"))) for image in images], np.float32)


def _saturation_and_value(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Average (max - min) / max and max over pixels (H, W, 3)."""
    high = pixels.max(axis=2).astype(np.float64)
    low = pixels.min(axis=2)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    return float(saturation.mean()), float(high.mean() / 255)


class Luminance:
    """The picture itself in grey (ITU-R 601), 0 to 255, made smaller by a whole number to about 256 pixels.

    The reduction is what the authors of SSIM advise for it: their window is meant for pictures seen as a whole.
    """

    name, revision, preprocessing = "luminance", "1", "grey-256"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, H, W); all pictures have one size."""
        grey = [image.convert("L") for image in images]
        smaller = [each.reduce(max(1, round(min(each.size) / LUMINANCE_SIDE))) for each in grey]
        return np.stack([np.asarray(each, np.float32) for each in smaller])


class Pixels:
    """A picture itself, 32 x 32 and RGB in [0, 1]: features that have no opinion."""

    name, revision, preprocessing = "pixels", "1", "32x32-box"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, 3072)."""
        from PIL import Image as Pillow

        small = [image.convert("RGB").resize((32, 32), Pillow.Resampling.BOX) for image in images]
        return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])


@dataclass(frozen=True)
class Clip:
    """A CLIP model: pictures and texts in one space."""

    name: str
    revision: str
    preprocessing: str
    model: Any
    processor: Any
    tokenizer: Any
    batch_size: int = 16

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return unit vectors (N, D)."""
        import torch

        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = [image.convert("RGB") for image in images[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                parts.append(_unit(self.model.get_image_features(pixel_values=pixels.to(self.model.device))))
        return np.concatenate(parts)

    def encode_texts(self, texts: Sequence[str]) -> tuple[Features, list[str]]:
        """Return unit vectors (N, D) and the texts that are longer than the model reads.

        Raises:
            ModelError: Different texts give one and the same vector.
        """
        import torch

        length = self.model.config.text_config.max_position_embeddings
        # Always padded to full length: no text's features depend on its neighbours in the batch.
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        full = self.tokenizer(list(texts))["input_ids"]
        cut = [text for text, ids in zip(texts, full, strict=True) if len(ids) > length]
        with torch.inference_mode():
            features = _unit(
                self.model.get_text_features(
                    input_ids=tokens["input_ids"].to(self.model.device),
                    attention_mask=tokens["attention_mask"].to(self.model.device),
                )
            )
        self._refuse_collapsed(tokens["input_ids"].numpy(), features)
        return features, cut

    def _refuse_collapsed(self, tokens: NDArray[np.int64], features: Features) -> None:
        """With a wrong eos_token_id every text is read at the same place: all vectors agree, silently."""
        same = features @ features.T > EOS_TRAP
        different = (tokens[:, None, :] != tokens[None, :, :]).any(axis=2)
        if (same & different).any():
            config, tokenizer = self.model.config.text_config, self.tokenizer
            message = (
                f"{self.name}: different texts give the same features, so it cannot judge anything. Its "
                f"text_config.eos_token_id is {config.eos_token_id}, its tokenizer's is {tokenizer.eos_token_id}; "
                f"they must be equal."
            )
            raise ModelError(message)


def _unit(output: Any) -> Features:
    # A tensor, or since transformers 5 an output that holds it.
    tensor: Tensor = getattr(output, "pooler_output", output).float()
    features: Features = (tensor / tensor.norm(dim=-1, keepdim=True)).cpu().numpy()
    return features


def resolve_judge(judge: str, base: str) -> str:
    """Return the CLIP model that ``validation.judge`` stands for."""
    if judge != "auto":
        return judge
    return "mini-clip" if base == "mini" else DEFAULT_JUDGE


def judge_of(config: Config) -> str:
    """Return the CLIP model that is to judge a run: by itself never the one that the run's loss optimises."""
    judge, own = resolve_judge(config.validation.judge, config.base), own_judge_of(config)
    replaceable = config.validation.judge == "auto" and judge == DEFAULT_JUDGE
    return OTHER_JUDGE if replaceable and own == judge else judge


def own_judge_of(config: Config) -> str | None:
    """Return the CLIP model that a run's loss optimises, if there is one."""
    named: str | None = getattr(config.objective, "clip", None)
    return None if named is None else resolve_judge(named, config.base)


def check_judge(config: Config) -> list[str]:
    """Find out before training whether the judge can be used; return warnings when not, or when it is no judge.

    Raises:
        ModelError: A judge that was asked for by name cannot be used.
    """
    judge = judge_of(config)
    reason = available(judge)
    if reason is None:
        return [not_independent(judge)] if judge == own_judge_of(config) else []
    if config.validation.judge != "auto":
        raise ModelError(reason)
    return [without_judge(reason)]


def not_independent(judge: str) -> str:
    """Return the warning of a run that is judged by what it was trained to please."""
    return (
        f"{judge} is the loss's own judge: its numbers are what was optimised, not evidence. For another opinion name "
        f"another CLIP model as validation.judge."
    )


def without_judge(reason: str) -> str:
    """Return the warning of a run whose automatic judge cannot be used."""
    first = reason.splitlines()[0].removeprefix("validation.judge: ").rstrip(".")
    return f"CLIP similarity and drift are not measured: {first}."


def available(judge: str) -> str | None:
    """Return why a judge cannot be used, or None when it can (a hub id is downloaded: it will be needed anyway)."""
    try:
        load_clip(judge)
    except ModelError as error:
        return str(error)
    return None


def load_clip(judge: str, *, device: str = "cpu", key: str = "validation.judge") -> Clip:
    """Load a CLIP model.

    Args:
        judge: ``mini-clip``, a folder, or a hub id.
        device: Where it computes.
        key: The setting that names it, for messages.

    Raises:
        ModelError: It is not there, is incomplete, or is not a CLIP model.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    place = str(MINI_CLIP) if judge == "mini-clip" else str(Path(judge).expanduser()) if is_path(judge) else judge
    if is_path(place) and not (Path(place) / "config.json").is_file():
        message = f"{key}: {judge!r} is not a model folder (no config.json in {place!r})."
        raise ModelError(message)
    try:
        kind = AutoConfig.from_pretrained(place).model_type
        if kind != "clip":
            message = f"{key}: {judge!r} is a {kind!r} model; it must be a CLIP model."
            raise ModelError(message)
        model, lacking = pretrained(CLIPModel, place)
        # Pinned to Pillow: torchvision resizes slightly differently, and numbers must not depend on its presence.
        processor = CLIPImageProcessorPil.from_pretrained(place)
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        message = (
            f"{key}: {judge!r} cannot be loaded: {reason}\n"
            f"Name a folder with a CLIPModel, or mini-clip, which needs no network."
        )
        raise ModelError(message) from error
    if lacking:
        message = f"{key}: {judge!r} lacks weights: {listing(lacking)}."
        raise ModelError(message)
    model = model.eval().requires_grad_(requires_grad=False).to(device)
    return Clip(judge, hash_weights(model), hash_json(processor.to_dict()), model, processor, tokenizer)


def pretrained(kind: Any, place: str) -> tuple[Any, list[str]]:
    """Return a transformers model and the names of weights that were not there (transformers leaves them random)."""
    loaded: Any = kind.from_pretrained(place, output_loading_info=True)
    model, loading = loaded
    return model, sorted(loading["missing_keys"])


def is_path(name: str) -> bool:
    """Return whether a model's name is a path and not a hub id."""
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def hash_weights(model: Any) -> str:
    """Return a hash of all weights of a torch module."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def hash_json(value: dict[str, Any]) -> str:
    """Return a hash of a value that JSON can hold; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
