"""What the frozen parts of a base make of pictures and captions, read through content-addressed caches.

data = read(source, settings, seed=0)
encoder = Encoder(config, family, data, text_is_trained=False, device="cpu")
encoder.fill()
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from brushwork import images
from brushwork.cache import Hasher, TensorStore, cache_folder, content_key
from brushwork.digests import Digests, different
from brushwork.errors import ConfigError, DataError, listing
from brushwork.pictures import Pictures
from brushwork.processes import join
from brushwork.progress import bar
from brushwork.seeds import derive
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from brushwork.config import Config
    from brushwork.sources import ImageSettings
    from brushwork.values import Family, Sample, Source

SMALLEST_SPLIT = 20
"""Below so many pictures, ``validation_split: auto`` holds none out."""
LARGEST_SPLIT = 32
AT_ONCE = 8192
"""So many keys of the caches are held at a time."""

Work = TypeVar("Work")


@dataclass(frozen=True)
class Data:
    """A source whose pictures have been read once: their digests, and which are held out."""

    source: Source
    digests: Digests
    train: NDArray[np.int32]
    held_out: list[int]
    fingerprint: str
    drawn: int = 0
    """How many pictures at the source's end the base drew itself; the others are the user's own."""
    rejected: Digests = field(default_factory=Digests)
    """Digests of the pictures that these are preferred to; empty when the data are no pairs."""
    sizes: NDArray[np.int32] | None = None
    """Width and height of each of the user's own pictures (N, 2), upright; nought where it is not there yet."""

    @property
    def own(self) -> NDArray[np.int32]:
        """Which of the user's own samples are trained on."""
        # Not np.unique, whose table takes ten times the memory of what is in it.
        places = np.sort(self.train[self.train < len(self.source) - self.drawn])
        first = np.ones(len(places), bool)
        first[1:] = places[1:] != places[:-1]
        return places if first.all() else places[first]

    @property
    def epoch(self) -> int:
        """In how many samples each of these comes once."""
        end = len(self.source) - self.drawn
        return len(self.train) * len(self.own) // int((self.train < end).sum())

    def pictures(self, indices: Iterable[int]) -> int:
        """Return how many different pictures some samples show, of pairs both."""
        places = indices if isinstance(indices, np.ndarray) else np.array([*indices], np.int64)
        # Of a stream only the first are read; the others count as different.
        read = places if places.max(initial=-1) < len(self.digests) else places[places < len(self.digests)]
        lots = [each.lots(read) for each in (self.digests, self.rejected) if len(each)]
        return different(*lots) + len(places) - len(read)


def read(source: Source, settings: ImageSettings, seed: int, *, sized: bool = False) -> Data:
    """Read every picture's bytes once, and hold some out; equal pictures are never on both sides.

    Args:
        source: The samples.
        settings: Theirs.
        seed: Decides what is held out.
        sized: Look at every picture's size, too; buckets need it in any case.

    Raises:
        DataError: The two pictures of a pair are the same.
    """
    if getattr(source, "streaming", False):
        return _stream(source, seed)
    sized = sized or settings.buckets
    distinct = getattr(source, "distinct", len(source))
    which = getattr(source, "picture", lambda index: index % distinct)  # the sample that shows it first
    digests, sizes = Digests(size=distinct), array("i")
    with bar("reading pictures", distinct) as advance:
        for index in range(distinct):
            data = source[index].image.read()
            digests[index] = images.digest(data)
            sizes.extend(_size(data) if sized else ())
            advance()
    places = np.fromiter(map(which, range(len(source))), np.int32, len(source)) if distinct < len(source) else None
    digests = digests if places is None else digests.at(places)
    extents = np.array(sizes, np.int32).reshape(-1, 2) if sized else None
    rejected = _rejected(source, digests)
    held_out = _held_out(_together(digests, rejected) if len(rejected) else digests, settings.validation_split, seed)
    train = np.ones(len(source), bool)
    train[held_out] = False
    return Data(
        source=source,
        digests=digests,
        train=np.flatnonzero(train).astype(np.int32),
        held_out=held_out,
        fingerprint=_fingerprint(source, digests, rejected),
        rejected=rejected,
        sizes=extents if extents is None or places is None else extents[places],
    )


def _size(data: bytes) -> tuple[int, int]:
    try:
        return images.size(data)
    except DataError:  # the base will draw it only now
        return 0, 0


def _stream(source: Any, seed: int) -> Data:
    """Return the data of a stream: its first samples are held out, the others are read as they come."""
    digests, asked, head = source.start(seed), source.asked, len(source.head)
    fingerprint = content_key(asked.path, source.total, asked.buffer, *digests)
    train = np.arange(head, len(source), dtype=np.int32)
    return Data(source, digests, train, list(range(source.held_out)), fingerprint)


def _fingerprint(source: Source, digests: Digests, rejected: Digests) -> str:
    """Return the hash of everything that a source says."""
    hasher = Hasher()
    for index, digest in enumerate(digests):
        sample = source[index]
        second = (rejected[index],) if len(rejected) else ()
        hasher.add(str((digest, *sample.captions, sample.weight, *_mask_digest(sample), *second)))
    return hasher.key()


def _rejected(source: Source, digests: Digests) -> Digests:
    """Return the digests of the rejected pictures, empty when the data are no pairs."""
    rejected = Digests()
    if not len(source) or "rejected" not in source[0].extra:
        return rejected
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


def _together(digests: Digests, rejected: Digests) -> list[str]:
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
    if token and getattr(source, "streaming", False):
        message = (
            f"method.token: {token!r} must be in every caption, and those of a stream are not known. Set "
            f"data.streaming=false."
        )
        raise ConfigError(message)
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
    limit = getattr(family, "size_limit", None)
    if limit is not None and data.resolution > limit:
        message = f"data.resolution is {data.resolution}, but {config.base} has places for sides up to {limit}."
        raise ConfigError(message)
    if data.bucket_step is not None and data.bucket_step % unit:
        message = f"data.bucket_step is {data.bucket_step}, but {config.base} needs a multiple of {unit}."
        raise ConfigError(message)
    return config.model_copy(update={"data": data})


def _held_out(digests: Digests | list[str], split: float | str, seed: int) -> list[int]:
    """Choose by content, so that adding a picture does not reshuffle the others."""
    # Equal pictures draw the same lot. Eight bytes each are sorted; who drew below the limit is asked anew.
    lots = np.fromiter((derive(seed, "held out", digest) for digest in digests), np.int64, len(digests))
    lots.sort()
    new = np.concatenate([[True], lots[1:] != lots[:-1]])
    total = int(np.count_nonzero(new))
    if split == "auto":
        count = 0 if total < SMALLEST_SPLIT else min(LARGEST_SPLIT, total // 10)
    else:
        count = round(float(split) * total)
    if count >= total:
        message = f"data.validation_split={split} would hold out all {total} pictures and leave none to train on."
        raise ConfigError(message)
    if not count:
        return []
    limit = lots[np.flatnonzero(new)[count]]
    return [index for index, digest in enumerate(digests) if derive(seed, "held out", digest) < limit]


class Encoder:
    """Turns samples into latents and conditioning, through the caches where they are allowed."""

    def __init__(self, config: Config, family: Family, data: Data, *, text_is_trained: bool, device: str) -> None:
        settings: Any = config.data
        self.family, self.data, self.device = family, data, device
        stored = not getattr(data.source, "streaming", False)
        cache_latents = _wanted(
            config.train.cache_latents, stored and settings.center_crop, "train.cache_latents=true",
            "a random crop is another picture each time. Set data.center_crop=true"
            if stored else "what is streamed is not stored. Set data.streaming=false",
        )  # fmt: skip
        self.cache_text = _wanted(
            config.train.cache_text, stored and not text_is_trained, "train.cache_text=true",
            "the text side is being trained, so a text's states change with every step. Train the denoiser only"
            if stored else "what is streamed is not stored. Set data.streaming=false",
        )  # fmt: skip
        root = cache_folder()
        self.dtype = str(next(family.vae.parameters()).dtype)
        self.texts = TensorStore(root / "texts" / family.text_fingerprint)
        store = TensorStore(root / "latents" / family.vae_fingerprint) if cache_latents else None
        tells = getattr(family, "reads_geometry", False)
        self.pictures = Pictures(data, settings, store, self.dtype, family.pixels_per_latent, tells_geometry=tells)

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
        sides = self.pictures.sides.values()

        def wanted(indices: Iterable[int]) -> dict[str, tuple[int, bool, bool]]:
            every = itertools.product(indices, flips, sides)
            return {
                self.pictures.key(index, flip=flip, rejected=side): (index, flip, side) for index, flip, side in every
            }

        def put(key: str, what: tuple[int, bool, bool]) -> None:
            index, flip, side = what
            store.put(key, self.encode(self.pictures.pixels(index, flip=flip, rejected=side)[None], squeeze=True))

        return self._fill(store, "encoding pictures", wanted, put)

    def _fill_texts(self) -> int:
        import torch

        def wanted(indices: Iterable[int]) -> dict[str, str]:
            captions = dict.fromkeys(each for index in indices for each in self.data.source[index].captions)
            if self.pictures.settings.caption_dropout:
                captions[""] = None
            return {self.text_key(caption): caption for caption in captions}

        def put(key: str, caption: str) -> None:
            states = self.family.encode_text([caption])
            # numpy has no bfloat16; float32 holds it exactly.
            rows = {name: value[0] for name, value in states.tensors.items()}
            tensors = {name: each.float() if each.is_floating_point() else each for name, each in rows.items()}
            self.texts.put(key, tensors)

        with torch.no_grad():
            return self._fill(self.texts, "encoding captions", wanted, put)

    def _fill(
        self,
        store: TensorStore,
        what: str,
        wanted: Callable[[Iterable[int]], dict[str, Work]],
        put: Callable[[str, Work], None],
    ) -> int:
        """Put what is missing into a store, this process's share of it; a bounded number of keys is held at a time.

        Everything is put one at a time: an entry must not depend on which others were missing with it.
        """
        world = join()

        def missing() -> Iterator[tuple[str, Work]]:
            for part in self._parts():
                found = wanted(part)
                yield from ((key, found[key]) for key in store.missing(world.local_share(found)))

        total = len({key for key, _ in itertools.islice(missing(), AT_ONCE)})
        if total == AT_ONCE:  # so many that they are counted and not remembered
            total = sum(1 for _ in missing())
        count = 0
        with bar(what, total) as advance, store.together():
            for key, each in missing():
                put(key, each)
                count += 1
                advance()
        return count

    def _parts(self) -> Iterator[NDArray[np.int32]]:
        """Yield the samples that are used in the loop, each picture with each caption once, some at a time."""
        indices = np.concatenate([self.data.own, np.array(self.data.held_out, np.int32), self._drawn])
        for first in range(0, len(indices), AT_ONCE):
            yield indices[first : first + AT_ONCE]

    @property
    def _drawn(self) -> NDArray[np.int32]:
        end = len(self.data.source)
        return np.arange(end - self.data.drawn, end, dtype=np.int32)

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
