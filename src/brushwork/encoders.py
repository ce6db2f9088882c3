"""Encoders turn pictures and texts into features; metrics compute with features only.

    clip = load_clip("mini-clip")                    # or a hub id, or a folder with a CLIPModel or SiglipModel
    features = clip.encode_images(pictures)          # (N, D) float32, unit vectors
    texts, cut = clip.encode_texts(["a dog"])        # (1, D), and which texts were too long

A feature is kept with the encoder's name, the hash of its weights and of its preprocessing: without these a CLIP
similarity is not a number that anyone can compare. Networks of other kinds are in ``brushwork.extractors``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from brushwork.errors import ModelError
from brushwork.loading import hash_json, hash_weights, load_parts, model_type
from brushwork.prepared import Prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from brushwork.config import Config

    Features = NDArray[np.float32]

Serves = Literal[
    "clip", "features", "dino", "inception", "classes", "captions", "caption_text", "pickscore", "score", "lpips",
    "colour", "luminance", "pixels", "technical", "predictions",
]  # fmt: skip
"""What a metric can need, and so what an encoder can serve: ``clip`` reads texts too, ``features`` are any network's
opinion of a picture, ``dino`` a self-supervised one's, ``classes`` probabilities, ``captions`` words, and so on."""

EVERY_REFERENCE = 5_000
"""At most so many training pictures are measured beside the drawn ones; copies of others are not found."""

MINI_CLIP = Path(__file__).parent / "assets" / "mini-clip"
DEFAULT_JUDGE = "openai/clip-vit-base-patch32"
LUMINANCE_SIDE = 256
SIXTEEN = 16
OTHER_JUDGE = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
"""The automatic judge of what was trained to please ``DEFAULT_JUDGE``: other weights, from other data."""
READERS = ("clip", "siglip")
"""Model types that read pictures and texts: Radford et al. 2021 (arXiv:2103.00020), Zhai et al. 2023 (2303.15343)."""
UNLIKE = ("a photo of a red car", "two dogs under blue trees")
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

    @property
    def serves(self) -> tuple[Serves, ...]:
        """Which needs of metrics it meets."""

    @property
    def references(self) -> int:
        """How many training pictures it looks at, at most; 0: none."""

    def encode_images(self, images: Sequence[Image]) -> Any:
        """Return (N, D), or (N, H, W) where features are pictures, or (N,) where they are words."""


@runtime_checkable
class Reader(Protocol):
    """An encoder that turns texts into the same space."""

    scale: float
    """What it multiplies cosines by where it gives scores; 1 where the cosine itself is meant."""

    def encode_texts(self, texts: Sequence[str]) -> tuple[Features, list[str]]:
        """Return (N, D) and the texts that are longer than it reads."""


class Colour:
    """Mean saturation and value (HSV) of a picture, each in [0, 1]: features that need no weights."""

    name, revision, preprocessing = "colour", "1", "hsv"
    serves: tuple[Serves, ...] = ("colour",)
    references = EVERY_REFERENCE

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
    serves: tuple[Serves, ...] = ("luminance",)
    references = 0

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, H, W); all pictures have one size."""
        grey = [image.convert("L") for image in images]
        smaller = [each.reduce(max(1, round(min(each.size) / LUMINANCE_SIDE))) for each in grey]
        return np.stack([np.asarray(each, np.float32) for each in smaller])


@dataclass(frozen=True)
class Pixels:
    """A picture itself, ``side`` x ``side`` and RGB in [0, 1]: features that have no opinion."""

    name: str = "pixels"
    side: int = 32
    serves: tuple[Serves, ...] = ("pixels",)
    revision: str = "1"
    references: int = EVERY_REFERENCE

    @property
    def preprocessing(self) -> str:
        """How a picture is made small."""
        return f"{self.side}x{self.side}-box"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, 3 side^2)."""
        from PIL import Image as Pillow

        small = [image.convert("RGB").resize((self.side, self.side), Pillow.Resampling.BOX) for image in images]
        return np.stack([np.asarray(image, np.float32).ravel() / 255 for image in small])


@dataclass(frozen=True)
class Clip:
    """A CLIP or SigLIP model: pictures and texts in one space."""

    name: str
    revision: str
    preprocessing: str
    model: Any
    processor: Any
    tokenizer: Any
    batch_size: int = 16
    serves: tuple[Serves, ...] = ("clip", "features")
    references: int = EVERY_REFERENCE
    scale: float = 1.0

    @functools.cached_property
    def _prepare(self) -> Prepared:
        return Prepared(self.processor)

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return unit vectors (N, D)."""
        import torch

        parts = []
        for start in range(0, len(images), self.batch_size):
            pixels = torch.from_numpy(self._prepare(images[start : start + self.batch_size]))
            with torch.inference_mode():
                parts.append(_unit(self.model.get_image_features(pixel_values=pixels.to(self.model.device))))
        return np.concatenate(parts)

    def encode_texts(self, texts: Sequence[str]) -> tuple[Features, list[str]]:
        """Return unit vectors (N, D) and the texts that are longer than the model reads.

        Raises:
            ModelError: Different texts give one and the same vector.
        """
        features, tokens = self._read(texts)
        full = self.tokenizer(list(texts))["input_ids"]
        cut = [text for text, ids in zip(texts, full, strict=True) if len(ids) > tokens.shape[1]]
        self._refuse_collapsed(tokens, features)
        return features, cut

    def _read(self, texts: Sequence[str]) -> tuple[Features, NDArray[np.int64]]:
        """Return unit vectors (N, D), and the tokens (N, L) padded or cut to all that the model reads."""
        import torch

        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        ids, mask = tokens["input_ids"], tokens.get("attention_mask")
        parts: dict[int, Features] = {}
        with torch.inference_mode():
            for read, rows in self._of_equal_length(mask, len(texts), length).items():
                given = {"input_ids": ids[rows, :read].to(self.model.device)}
                if self._masks:
                    given["attention_mask"] = mask[rows, :read].to(self.model.device)
                parts |= zip(rows, _unit(self.model.get_text_features(**given)), strict=True)
        return np.stack([parts[row] for row in range(len(texts))]), ids.numpy()

    @property
    def _masks(self) -> bool:
        """Whether padding is hidden from it; SigLIP was trained on padding that it sees (arXiv:2303.15343)."""
        return bool(self.model.config.model_type == "clip")

    def _of_equal_length(self, mask: Any, count: int, length: int) -> dict[int, list[int]]:
        """Return the texts' places by how many tokens are read of each: its own in sixteens, and all that SigLIP has.

        CLIP reads from left to right, so what follows the end of a text changes nothing but the time it takes. The
        number depends on the text alone: no text's features depend on its neighbours in the batch.
        """
        if not self._masks or self.tokenizer.padding_side != "right":
            return {length: list(range(count))}
        groups: dict[int, list[int]] = {}
        for row, used in enumerate(mask.sum(dim=1).tolist()):
            groups.setdefault(min(length, -(-used // SIXTEEN) * SIXTEEN), []).append(row)
        return groups

    def _refuse_collapsed(self, tokens: NDArray[np.int64], features: Features) -> None:
        """With a wrong eos_token_id every text is read at the same place: all vectors agree, silently."""
        same = features @ features.T > EOS_TRAP
        different = (tokens[:, None, :] != tokens[None, :, :]).any(axis=2)
        if not (same & different).any():
            return
        # Two texts may differ in a word that it does not know; two that share no word must differ to any judge.
        one, other = self._read(UNLIKE)[0]
        if float(one @ other) > EOS_TRAP:
            config, tokenizer = self.model.config.text_config, self.tokenizer
            message = (
                f"{self.name}: different texts give the same features, so it cannot judge anything. Its "
                f"text_config.eos_token_id is {getattr(config, 'eos_token_id', None)}, its tokenizer's is "
                f"{tokenizer.eos_token_id}; they must be equal."
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
    """Load a CLIP or SigLIP model.

    Args:
        judge: ``mini-clip``, a folder, or a hub id; ``clip:`` or ``siglip:`` may stand before it.
        device: Where it computes.
        key: The setting that names it, for messages.

    Raises:
        ModelError: It is not there, is incomplete, or is neither a CLIP nor a SigLIP model.
    """
    from transformers import CLIPImageProcessorPil, CLIPModel, SiglipImageProcessorPil, SiglipModel

    prefix, _, rest = judge.partition(":")
    place = rest if prefix in READERS else judge
    place = str(MINI_CLIP) if place == "mini-clip" else place
    kind = model_type(place, judge, key)
    wanted = prefix if prefix in READERS else kind
    if kind not in READERS or kind != wanted:
        needed = {"clip": "a CLIP", "siglip": "a SigLIP"}.get(wanted, "a CLIP or SigLIP")
        message = f"{key}: {judge!r} is a {kind!r} model; it must be {needed} model."
        raise ModelError(message)
    # Pinned to Pillow: torchvision resizes slightly differently, and numbers must not depend on its presence.
    classes = {"clip": (CLIPModel, CLIPImageProcessorPil), "siglip": (SiglipModel, SiglipImageProcessorPil)}
    network, processing = classes[kind]
    model, processor, tokenizer = load_parts(place, judge, key, network, processing.from_pretrained, device=device)
    return Clip(judge, hash_weights(model), hash_json(processor.to_dict()), model, processor, tokenizer)
