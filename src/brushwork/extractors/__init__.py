"""Networks that look at pictures, chosen by a string: ``KIND:WHICH``.

    (dino,) = load("dinov2:facebook/dinov2-base")
    dino.encode_images(pictures)          # (N, D); dino.name, dino.revision, dino.preprocessing say by what

``WHICH`` is a hub id or a folder unless the table says otherwise:

| kind | what | serves |
|---|---|---|
| ``clip``, ``siglip`` | any CLIPModel or SiglipModel | the metrics of the judge |
| ``dinov2`` | a Dinov2Model (or ViTModel: facebook/dino-vits16) | DINO-I, distances, diversity, copies |
| ``inception`` | the file of FID's weights, ``auto`` downloads it (extra ``inception``) | FID, Inception Score |
| ``classifier`` | any image classifier | Inception Score |
| ``captioner``, ``blip`` | a captioner | caption metrics |
| ``pickscore`` | a CLIPModel trained on votes | PickScore |
| ``lpips`` | ``alex``, ``vgg`` or ``squeeze`` (extra ``lpips``) | LPIPS |
| ``pixels`` | a number of pixels a side | distances, diversity, copies |
| ``external`` | a command (see ``brushwork.extractors.external``) | whatever it gives |
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from brushwork.encoders import Pixels, load_clip
from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from brushwork.encoders import Encoder

KINDS = (
    "blip", "captioner", "classifier", "clip", "dinov2", "external", "inception", "lpips", "pickscore", "pixels",
    "siglip",
)  # fmt: skip
KEY = "validation.extractors"
SECONDS = 300.0
"""How long an external program may be silent."""
LARGEST_SIDE = 1024


def load(name: str, *, device: str = "cpu", key: str = KEY, seconds: float = SECONDS) -> tuple[Encoder, ...]:
    """Load what a string names: one encoder, or two where a network gives both features and classes.

    Args:
        name: ``KIND:WHICH``.
        device: Where it computes.
        key: The setting that names it, for messages.
        seconds: How long an external program may take for each answer.

    Raises:
        ConfigError: There is no such kind, or it needs a package that is not installed.
        ModelError: The network is not there, or is of another kind.
    """
    kind, which = split(name, key)
    if kind in ("clip", "siglip"):
        return (load_clip(name, device=device, key=key),)
    if kind == "pickscore":
        return (_pickscore(name, which, device, key),)
    if kind == "pixels":
        return (_pixels(name, which, key),)
    if kind in ("captioner", "blip"):
        from brushwork.extractors.captions import Captions

        return (Captions.load(name, device=device, key=key),)
    if kind == "external":
        from brushwork.extractors.external import External

        return (External(name, which, seconds=seconds, key=key),)
    module = importlib.import_module(f"brushwork.extractors.{kind}")
    found: tuple[Encoder, ...] = module.load(which, name, device=device, key=key)
    return found


def split(name: str, key: str = KEY) -> tuple[str, str]:
    """Return kind and place of an extractor's name.

    >>> split("dinov2:facebook/dinov2-base")
    ('dinov2', 'facebook/dinov2-base')

    Raises:
        ConfigError: It has no kind, an unknown one, or nothing after it.
    """
    kind, colon, which = name.partition(":")
    if not colon or kind not in KINDS:
        message = (
            f"{key}: {name!r} must be KIND:WHICH, such as clip:openai/clip-vit-base-patch32.{nearest(kind, KINDS)}"
        )
        raise ConfigError(message)
    if not which.strip():
        message = f"{key}: {name!r} does not say which; write {kind}:WHICH."
        raise ConfigError(message)
    return kind, which.strip()


def _pickscore(name: str, place: str, device: str, key: str) -> Encoder:
    clip = load_clip(f"clip:{place}", device=device, key=key)
    # Kirstain et al. 2023 (arXiv:2305.01569), section 4: the score is the model's own temperature times the cosine.
    return replace(clip, name=name, serves=("pickscore",), references=0, scale=float(clip.model.logit_scale.exp()))


def _pixels(name: str, side: str, key: str) -> Encoder:
    if not side.isdigit() or not 1 <= int(side) <= LARGEST_SIDE:
        message = f"{key}: {name!r} must name the pixels of a side, 1 to {LARGEST_SIDE}, such as pixels:32."
        raise ConfigError(message)
    return Pixels(name=name, side=int(side), serves=("features",))


def lacking(package: str, name: str, key: str) -> ConfigError:
    """Return the error of an extractor whose package is not installed; the extra has the name of its kind."""
    extra = split(name, key)[0]
    return ConfigError(f"{key}: {name!r} needs the package {package}: pip install 'brushwork[{extra}]'")
