"""What the loop is fed: which samples, in which order, encoded how, with which noise.

Sample number p of a run (counted over all steps) determines everything random about it: its place in the shuffled
order, its flip and crop, its noise and its timestep. So batches do not depend on loader workers or on how a step is
split into micro-batches, and resuming is starting to count elsewhere.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import images
from brushwork.cache import TensorStore, cache_folder, content_key
from brushwork.errors import ConfigError
from brushwork.progress import bar
from brushwork.seeds import derive
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import Tensor

    from brushwork.config import Config
    from brushwork.sources import ImageSettings
    from brushwork.values import Family, Sample, Source

SMALLEST_SPLIT = 20
"""Below so many pictures, ``validation_split: auto`` holds none out."""
LARGEST_SPLIT = 32


@dataclass(frozen=True)
class Data:
    """A source whose pictures have been read once: their digests, and which are held out."""

    source: Source
    digests: list[str]
    train: list[int]
    held_out: list[int]
    fingerprint: str


def read(source: Source, settings: ImageSettings, seed: int) -> Data:
    """Read every picture's bytes once, and hold some out; equal pictures are never on both sides."""
    digests = []
    with bar("reading pictures", len(source)) as advance:
        for index in range(len(source)):
            digests.append(images.digest(source[index].image.read()))
            advance()
    held_out = _held_out(digests, settings.validation_split, seed)
    contents = [(digest, source[index].caption, source[index].weight) for index, digest in enumerate(digests)]
    return Data(
        source=source,
        digests=digests,
        train=[index for index in range(len(source)) if index not in held_out],
        held_out=sorted(held_out),
        fingerprint=content_key(*(str(part) for part in contents)),
    )


def _held_out(digests: Sequence[str], split: float | str, seed: int) -> set[int]:
    """Choose by content, so that adding a picture does not reshuffle the others."""
    unique = sorted(set(digests), key=lambda digest: derive(seed, "held out", digest))
    if split == "auto":
        count = 0 if len(unique) < SMALLEST_SPLIT else min(LARGEST_SPLIT, len(unique) // 10)
    else:
        count = round(float(split) * len(unique))
    if count >= len(unique):
        message = f"data.validation_split={split} would hold out all {len(unique)} pictures and leave none to train on."
        raise ConfigError(message)
    chosen = set(unique[:count])
    return {index for index, digest in enumerate(digests) if digest in chosen}


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the training device. Shapes: latents and noise (B, C, H, W), uniform and weights (B,)."""

    names: list[str]
    captions: list[str]
    conditioning: Conditioning | None
    latents: Tensor
    noise: Tensor
    uniform: Tensor
    weights: Tensor


class Encoder:
    """Turns samples into latents and conditioning, through the caches where they are allowed."""

    def __init__(self, config: Config, family: Family, data: Data, *, text_is_trained: bool, device: str) -> None:
        settings: Any = config.data
        self.settings: ImageSettings = settings
        self.family, self.data, self.device = family, data, device
        self.cache_latents = _wanted(
            config.train.cache_latents, self.settings.center_crop, "train.cache_latents=true",
            "a random crop is another picture each time. Set data.center_crop=true",
        )  # fmt: skip
        self.cache_text = _wanted(
            config.train.cache_text, not text_is_trained, "train.cache_text=true",
            "the text encoder is being trained. Set method.train_text_encoder=false",
        )  # fmt: skip
        root = cache_folder()
        self.latents = TensorStore(root / "latents" / family.vae_fingerprint)
        self.texts = TensorStore(root / "texts" / family.text_fingerprint)
        self.dtype = str(next(family.vae.parameters()).dtype)

    def fill(self) -> dict[str, int]:
        """Encode what is not in the caches yet; return how many latents and texts were encoded."""
        counts = {"latents": 0, "texts": 0}
        if self.cache_latents:
            counts["latents"] = self._fill_latents()
        if self.cache_text:
            counts["texts"] = self._fill_texts()
        return counts

    def _fill_latents(self) -> int:
        flips = (False, True) if self.settings.random_flip else (False,)
        wanted = {self.latent_key(index, flip=flip): (index, flip) for index in self._indices for flip in flips}
        missing = self.latents.missing(wanted)
        with bar("encoding pictures", len(missing)) as advance:
            for key in missing:
                index, flip = wanted[key]
                self.latents.put(key, self.encode(self.pixels(index, flip=flip)[None], squeeze=True))
                advance()
        return len(missing)

    def _fill_texts(self) -> int:
        import torch

        captions = dict.fromkeys(self.data.source[index].caption for index in self._indices)
        wanted = {self.text_key(caption): caption for caption in captions}
        missing = self.texts.missing(wanted)
        with bar("encoding captions", len(missing)) as advance, torch.no_grad():
            for key in missing:
                states = self.family.encode_text([wanted[key]])
                # numpy has no bfloat16; float32 holds it exactly.
                tensors = {name: value[0].float() if value.is_floating_point() else value[0] for name, value in states.tensors.items()}
                self.texts.put(key, tensors)
                advance()
        return len(missing)

    @property
    def _indices(self) -> list[int]:
        return self.data.train + self.data.held_out

    def latent_key(self, index: int, *, flip: bool) -> str:
        """Return the key of a picture's latents: its bytes, the geometry, the background, the type."""
        settings = self.settings
        return content_key(self.data.digests[index], settings.resolution, "centre", flip, settings.background, self.dtype)

    def text_key(self, caption: str) -> str:
        """Return the key of a caption's states."""
        return content_key(caption, self.dtype)

    def pixels(self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None) -> Tensor:
        """Decode one picture to (3, H, W) in [-1, 1]."""
        sample = self.data.source[index]
        picture = images.decode(sample.image.read(), self.settings.background, sample.name)
        array = images.square(picture, self.settings.resolution, centre=random_xy is None, flip=flip, random_xy=random_xy)
        return images.to_pixels(array)

    def encode(self, pixels: Tensor, *, squeeze: bool = False) -> dict[str, Tensor]:
        """Encode (B, 3, H, W) to the posterior's mean and standard deviation, float32."""
        import torch

        dtype = next(self.family.vae.parameters()).dtype
        with torch.no_grad():
            moments = self.family.encode_images(pixels.to(self.device, dtype))
        tensors = {"mean": moments.mean.float(), "std": moments.std.float()}
        return {name: value[0] for name, value in tensors.items()} if squeeze else tensors

    def conditioning(self, captions: Sequence[str]) -> Conditioning:
        """Return the stored states of captions, stacked."""
        import torch

        rows = [self.texts.get(self.text_key(caption)) for caption in captions]
        return Conditioning({name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def _wanted(asked: bool | str, possible: bool, key: str, reason: str) -> bool:  # noqa: FBT001
    if asked is True and not possible:
        message = f"{key} is impossible: {reason}, or use auto."
        raise ConfigError(message)
    return possible if asked == "auto" else bool(asked)


class Examples:
    """A map-style torch data set over sample numbers, so that loader workers can decode ahead."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        self.encoder, self.seed = encoder, seed

    def index(self, position: int) -> int:
        """Return which sample of the source is seen as number ``position``."""
        epoch, place = divmod(position, len(self.encoder.data.train))
        return self.encoder.data.train[self._order(epoch)[place]]

    @functools.lru_cache(maxsize=2)  # noqa: B019  (lives as long as the run)
    def _order(self, epoch: int) -> list[int]:
        import torch

        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        return torch.randperm(len(self.encoder.data.train), generator=generator).tolist()

    def sample(self, position: int) -> Sample:
        """Return the sample seen as number ``position``."""
        return self.encoder.data.source[self.index(position)]

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return the pixels, or the cached moments, with everything random about them decided."""
        import torch

        index = self.index(position)
        generator = torch.Generator().manual_seed(derive(self.seed, "augment", position))
        chance, x, y = torch.rand(3, generator=generator).tolist()
        flip = self.encoder.settings.random_flip and chance < 0.5  # noqa: PLR2004
        sample = self.encoder.data.source[index]
        example: dict[str, Any] = {"position": position, "name": sample.name, "caption": sample.caption}
        if self.encoder.cache_latents:
            return example | self.encoder.latents.get(self.encoder.latent_key(index, flip=flip))
        random_xy = None if self.encoder.settings.center_crop else (x, y)
        return example | {"pixels": self.encoder.pixels(index, flip=flip, random_xy=random_xy)}


def batches(examples: Examples, config: Config, start: int, stop: int) -> Iterator[Batch]:
    """Yield the micro-batches of the samples numbered ``start`` to ``stop``."""
    import torch

    loader: torch.utils.data.DataLoader[dict[str, Any]] = torch.utils.data.DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=config.train.train_batch_size,
        sampler=range(start, stop),
        num_workers=config.train.dataloader_num_workers,
        collate_fn=_list,
        pin_memory=examples.encoder.device.startswith("cuda"),
        generator=torch.Generator(),
    )
    for rows in loader:
        yield collate(rows, examples)


def _list(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


def collate(rows: Sequence[dict[str, Any]], examples: Examples) -> Batch:
    """Draw latents from their posterior, noise and timesteps, each from its sample's own generator."""
    import torch

    encoder = examples.encoder
    if "pixels" in rows[0]:
        moments = encoder.encode(torch.stack([row["pixels"] for row in rows]))
    else:
        moments = {name: torch.stack([row[name] for row in rows]).to(encoder.device) for name in ("mean", "std")}
    shape = moments["mean"].shape[1:]
    draws, noises, uniforms = [], [], []
    for row in rows:
        generator = torch.Generator().manual_seed(derive(examples.seed, "noise", row["position"]))
        draws.append(torch.randn(shape, generator=generator))
        noises.append(torch.randn(shape, generator=generator))
        uniforms.append(torch.rand((), generator=generator))
    captions = [row["caption"] for row in rows]
    posterior = moments["mean"] + moments["std"] * torch.stack(draws).to(encoder.device)
    weights = torch.tensor([examples.sample(row["position"]).weight for row in rows])
    return Batch(
        names=[row["name"] for row in rows],
        captions=captions,
        conditioning=encoder.conditioning(captions) if encoder.cache_text else None,
        latents=encoder.family.scale_latents(posterior),
        noise=torch.stack(noises).to(encoder.device),
        uniform=torch.stack(uniforms).to(encoder.device),
        weights=weights.to(encoder.device),
    )


def held_out_batches(examples: Examples, config: Config) -> Iterator[Batch]:
    """Yield the held-out samples at fixed noise and evenly spaced timesteps: the same in every call."""
    import torch

    encoder, validation = examples.encoder, config.validation
    rows = []
    for index in encoder.data.held_out[: validation.loss_images]:
        sample = encoder.data.source[index]
        if encoder.cache_latents:
            mean = encoder.latents.get(encoder.latent_key(index, flip=False))["mean"]
        else:
            mean = encoder.encode(encoder.pixels(index, flip=False)[None], squeeze=True)["mean"].cpu()
        for slot in range(validation.loss_timesteps):
            generator = torch.Generator().manual_seed(derive(config.seed, "validation", encoder.data.digests[index], slot))
            noise = torch.randn(mean.shape, generator=generator)
            rows.append((sample, mean, noise, (slot + 0.5) / validation.loss_timesteps))
    size = config.train.train_batch_size
    for part in (rows[first : first + size] for first in range(0, len(rows), size)):
        captions = [sample.caption for sample, *_ in part]
        yield Batch(
            names=[sample.name for sample, *_ in part],
            captions=captions,
            conditioning=encoder.conditioning(captions) if encoder.cache_text else None,
            latents=encoder.family.scale_latents(torch.stack([mean for _, mean, _, _ in part]).to(encoder.device)),
            noise=torch.stack([noise for *_, noise, _ in part]).to(encoder.device),
            uniform=torch.tensor([slot for *_, slot in part], device=encoder.device),
            weights=torch.tensor([sample.weight for sample, *_ in part], device=encoder.device),
        )
