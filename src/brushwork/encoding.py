"""What the frozen parts of a base make of pictures and captions, read through content-addressed caches.

data = read(source, settings, seed=0)
encoder = Encoder(config, family, data, text_is_trained=False, device="cpu")
encoder.fill()
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork import images
from brushwork.cache import TensorStore, cache_folder, content_key
from brushwork.errors import ConfigError, DataError, listing
from brushwork.processes import join
from brushwork.progress import bar
from brushwork.seeds import derive
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    drawn: int = 0
    """How many pictures at the source's end the base drew itself; the others are the user's own."""
    rejected: list[str] = field(default_factory=list)
    """Digests of the pictures that these are preferred to; empty when the data are no pairs."""

    @property
    def own(self) -> list[int]:
        """Which of the user's own samples are trained on."""
        return sorted(index for index in set(self.train) if index < len(self.source) - self.drawn)

    @property
    def epoch(self) -> int:
        """In how many samples each of these comes once."""
        end = len(self.source) - self.drawn
        return len(self.train) * len(self.own) // sum(index < end for index in self.train)

    def pictures(self, indices: Iterable[int]) -> int:
        """Return how many different pictures some samples show, of pairs both."""
        return len({each[index] for index in indices for each in (self.digests, self.rejected) if each})


def read(source: Source, settings: ImageSettings, seed: int) -> Data:
    """Read every picture's bytes once, and hold some out; equal pictures are never on both sides.

    Raises:
        DataError: The two pictures of a pair are the same.
    """
    distinct = getattr(source, "distinct", len(source))  # sample i then shows picture i modulo so many
    firsts = []
    with bar("reading pictures", distinct) as advance:
        for index in range(distinct):
            firsts.append(images.digest(source[index].image.read()))
            advance()
    digests = [firsts[index % distinct] for index in range(len(source))]
    rejected = _rejected(source, digests)
    held_out = _held_out(_together(digests, rejected) if rejected else digests, settings.validation_split, seed)
    contents = [
        (
            digest,
            *source[index].captions,
            source[index].weight,
            *_mask_digest(source[index]),
            *rejected[index : index + 1],
        )
        for index, digest in enumerate(digests)
    ]
    return Data(
        source=source,
        digests=digests,
        train=[index for index in range(len(source)) if index not in held_out],
        held_out=sorted(held_out),
        fingerprint=content_key(*(str(part) for part in contents)),
        rejected=rejected,
    )


def _rejected(source: Source, digests: Sequence[str]) -> list[str]:
    """Return the digests of the rejected pictures, empty when the data are no pairs."""
    if not len(source) or "rejected" not in source[0].extra:
        return []
    rejected = []
    with bar("reading rejected pictures", len(source)) as advance:
        for index in range(len(source)):
            rejected.append(images.digest(source[index].extra["rejected"].read()))
            advance()
    same = [source[index].name for index, digest in enumerate(digests) if rejected[index] == digest]
    if same:
        message = (
            f"data: in {len(same)} of {len(source)} pairs the chosen and the rejected picture are the same: "
            f"{listing(same)}.\nTake them out: there is nothing to prefer."
        )
        raise DataError(message)
    return rejected


def _together(digests: Sequence[str], rejected: Sequence[str]) -> list[str]:
    """Return for each pair a digest that all pairs share which hang together through common pictures."""
    parent = {digest: digest for digest in (*digests, *rejected)}

    def root(digest: str) -> str:
        while parent[digest] != digest:
            parent[digest] = parent[parent[digest]]
            digest = parent[digest]
        return digest

    for pair in zip(digests, rejected, strict=True):
        first, second = sorted(root(each) for each in pair)
        parent[second] = first  # the smallest of a group is its name, whatever the order of the pairs
    return [root(digest) for digest in digests]


def _mask_digest(sample: Sample) -> tuple[str, ...]:
    mask = sample.extra.get("mask")
    return () if mask is None else (images.digest(mask.read()),)


def check_token(source: Source, token: str | None) -> None:
    """Refuse captions without the word that a method is to learn: they would teach it nothing."""
    samples = (source[index] for index in range(len(source) if token else 0))
    lacking = [sample.name for sample in samples if not all(str(token) in each for each in sample.captions)]
    if lacking:
        message = (
            f"method.token: {token!r} is not in {len(lacking)} of {len(source)} captions: {listing(lacking)}.\n"
            f"Write it into them, or let templates do it: data.type=templated data.templates=object"
        )
        raise ConfigError(message)


def at_resolution(config: Config, family: Family) -> Config:
    """Return the configuration with the resolution that pictures are brought to, which is the base's unless given.

    Raises:
        ConfigError: It does not fit the base.
    """
    data: Any = config.data
    unit = family.size_multiple
    if data.resolution is None:
        data = data.model_copy(update={"resolution": family.resolution})
    if data.resolution % unit:
        lower = max(unit, data.resolution // unit * unit)
        message = (
            f"data.resolution is {data.resolution}, but {config.base} needs a multiple of {unit}: {lower} or "
            f"{lower + unit}."
        )
        raise ConfigError(message)
    return config.model_copy(update={"data": data})


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


class Pictures:
    """Pictures by index, as pixels or as cached moments. Holds no model, so loader workers can have it."""

    def __init__(
        self,
        data: Data,
        settings: ImageSettings,
        store: TensorStore | None,
        dtype: str,
        unit: int,
        *,
        tells_geometry: bool = False,
    ) -> None:
        assert settings.resolution is not None, "train.prepare fills it in"
        self.data, self.settings, self.store, self.dtype, self.unit = data, settings, store, dtype, unit
        self.tells_geometry = tells_geometry
        self.resolution = settings.resolution

    @property
    def sides(self) -> dict[str, bool]:
        """The pictures of a sample: what their tensors' names begin with, and whether it is the rejected one."""
        return {"": False, "rejected_": True} if self.data.rejected else {"": False}

    def key(self, index: int, *, flip: bool, rejected: bool = False) -> str:
        """Return the key of a picture's latents: its bytes, the geometry, the background, the type."""
        digests = self.data.rejected if rejected else self.data.digests
        geometry = (self.resolution, "centre", flip, self.settings.background)
        return content_key(digests[index], *geometry, self.dtype)

    def pixels(
        self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None, rejected: bool = False
    ) -> Tensor:
        """Decode one picture to (3, H, W) in [-1, 1]."""
        sample = self.data.source[index]
        file = sample.extra["rejected"] if rejected else sample.image
        picture = images.decode(file.read(), self.settings.background, sample.name)
        array = images.square(picture, self.resolution, centre=random_xy is None, flip=flip, random_xy=random_xy)
        return images.to_pixels(array)

    def geometry(self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None) -> Tensor | None:
        """Return size and crop of a picture, (6,), for a family that reads them; see ``images.geometry``."""
        import torch

        if not self.tells_geometry:
            return None
        return torch.tensor(images.geometry(self._size(index), self.resolution, flip=flip, random_xy=random_xy))

    @functools.lru_cache(maxsize=1 << 16)  # noqa: B019  (lives as long as the run)
    def _size(self, index: int) -> tuple[int, int]:
        """Return width and height before anybody resized the picture."""
        sample = self.data.source[index]
        told = sample.extra.get("original_size")
        return images.size(sample.image.read(), sample.name) if told is None else (int(told[0]), int(told[1]))

    def mask(self, index: int, *, flip: bool, random_xy: tuple[float, float] | None = None) -> Tensor | None:
        """Return how much each latent pixel of a picture counts, (1, H, W) in [0, 1], cropped as the picture is."""
        return self._centre_mask(index, flip) if random_xy is None else self._read_mask(index, flip, random_xy)

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (lives as long as the run)
    def _centre_mask(self, index: int, flip: bool) -> Tensor | None:  # noqa: FBT001
        return self._read_mask(index, flip, None)

    def _read_mask(self, index: int, flip: bool, random_xy: tuple[float, float] | None) -> Tensor | None:  # noqa: FBT001
        import torch

        sample = self.data.source[index]
        file = sample.extra.get("mask")
        if file is None:
            return None
        image = images.decode(file.read(), "black", f"the mask of {sample.name}").convert("L").convert("RGB")
        array = images.square(image, self.resolution, centre=random_xy is None, flip=flip, random_xy=random_xy)
        white = torch.from_numpy(array[..., 0].copy()).float().div(255)[None]
        return torch.nn.functional.avg_pool2d(white, self.unit)


class Encoder:
    """Turns samples into latents and conditioning, through the caches where they are allowed."""

    def __init__(self, config: Config, family: Family, data: Data, *, text_is_trained: bool, device: str) -> None:
        settings: Any = config.data
        self.family, self.data, self.device = family, data, device
        cache_latents = _wanted(
            config.train.cache_latents, settings.center_crop, "train.cache_latents=true",
            "a random crop is another picture each time. Set data.center_crop=true",
        )  # fmt: skip
        self.cache_text = _wanted(
            config.train.cache_text, not text_is_trained, "train.cache_text=true",
            "the text side is being trained, so a text's states change with every step. Train the denoiser only",
        )  # fmt: skip
        root = cache_folder()
        self.dtype = str(next(family.vae.parameters()).dtype)
        self.texts = TensorStore(root / "texts" / family.text_fingerprint)
        store = TensorStore(root / "latents" / family.vae_fingerprint) if cache_latents else None
        self.pictures = Pictures(
            data, settings, store, self.dtype, family.pixels_per_latent, tells_geometry=family.reads_geometry
        )

    def fill(self) -> dict[str, int]:
        """Encode what is not in the caches yet, each process its share; return how many latents and texts that was."""
        counts = {"latents": 0, "texts": 0}
        if self.pictures.store:
            counts["latents"] = self._fill_latents(self.pictures.store)
        if self.cache_text:
            counts["texts"] = self._fill_texts()
        every = join().exchange(counts)
        return {name: sum(each[name] for each in every) for name in counts}

    def _fill_latents(self, store: TensorStore) -> int:
        flips = (False, True) if self.pictures.settings.random_flip else (False,)
        every = itertools.product(self._indices, flips, self.pictures.sides.values())
        wanted = {
            self.pictures.key(index, flip=flip, rejected=side): (index, flip, side) for index, flip, side in every
        }
        missing = store.missing(join().local_share(wanted))
        with bar("encoding pictures", len(missing)) as advance:
            # One at a time: an entry must not depend on which others were missing with it.
            for key in missing:
                index, flip, side = wanted[key]
                store.put(key, self.encode(self.pictures.pixels(index, flip=flip, rejected=side)[None], squeeze=True))
                advance()
        return len(missing)

    def _fill_texts(self) -> int:
        import torch

        captions = dict.fromkeys(each for index in self._indices for each in self.data.source[index].captions)
        if self.pictures.settings.caption_dropout:
            captions[""] = None
        wanted = {self.text_key(caption): caption for caption in captions}
        missing = self.texts.missing(join().local_share(wanted))
        with bar("encoding captions", len(missing)) as advance, torch.no_grad():
            for key in missing:
                states = self.family.encode_text([wanted[key]])
                # numpy has no bfloat16; float32 holds it exactly.
                firsts = {name: value[0] for name, value in states.tensors.items()}
                tensors = {name: each.float() if each.is_floating_point() else each for name, each in firsts.items()}
                self.texts.put(key, tensors)
                advance()
        return len(missing)

    @property
    def _indices(self) -> list[int]:
        return self.data.train + self.data.held_out

    def text_key(self, caption: str) -> str:
        """Return the key of a caption's states."""
        return content_key(caption, self.dtype)

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
