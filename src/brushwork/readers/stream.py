"""A data set too large to fetch: read from the hub (or from Parquet files) as training goes on, never stored.

    source = Streamed(open_stream("laion/some-set", None, "train", None), asked)
    source[0].caption                           # the first samples are held
    source[len(source.head) + 10_000]           # reads on to there

Training begins behind the samples that are held out. Its order is that of the data set, shuffled in a buffer by a seed:
which sample comes as number p follows from the seed alone, so a run that is resumed reads on to where it stood.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import images
from brushwork.digests import Digests
from brushwork.errors import DataError
from brushwork.readers import ImageFile, arrow, clean_all, columns, first, others
from brushwork.seeds import derive
from brushwork.values import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import IterableDataset

LEAST_HEAD = 8
"""So many samples are held at least: for prompts and for a look at the data."""
SMALLEST_SPLIT, LARGEST_SPLIT = 20, 32
MOST_HELD = 1000
"""Held-out pictures lie in memory."""


@dataclass(frozen=True)
class Asked:
    """What the user said about a stream."""

    path: str
    image_column: str | None = None
    caption_column: str | None = None
    buffer: int = 1000
    samples: int | None = None
    split: float | str = "auto"
    allow_bad_captions: bool = False


def open_stream(path: str, subset: str | None, split: str, revision: str | None, *, hint: str = "") -> IterableDataset:
    """Open a data set without fetching it.

    Raises:
        DataError: It is not there, or cannot be read as a stream.
    """
    opened = arrow.load(path, subset, split, revision, hint=hint, streaming=True)
    if opened.features is None:
        message = f"data.streaming: {path!r} does not say which columns it has, so it cannot be streamed."
        raise DataError(message)
    return opened


class Streamed:
    """A source whose samples come in the order of the stream; those behind the head without end."""

    streaming = True

    def __init__(self, dataset: IterableDataset, asked: Asked) -> None:
        """Find the columns, learn the length and read the head.

        Raises:
            DataError: A column or the length is not known, there is no sample, or a caption is missing.
        """
        from datasets import Image

        self.asked, self.notes, self.seed = asked, (), 0
        image, self._caption = _columns(dataset, asked)
        self._image = image
        self._data = dataset.select_columns([image, self._caption]).cast_column(image, Image(decode=False))
        self.total = _length(dataset, asked)
        self.held_out = _held_out(self.total, asked.split)
        rows = itertools.islice(self._data, max(self.held_out, LEAST_HEAD))
        self.head = [self._sample(row, f"{asked.path}[{index}]") for index, row in enumerate(rows)]
        if len(self.head) <= self.held_out:
            message = f"data.streaming: {asked.path} has only {len(self.head)} samples; read it without streaming."
            raise DataError(message)
        self.distinct = len(self.head)
        self._recent: OrderedDict[int, Sample] = OrderedDict()
        self._keep, self._next = asked.buffer, 0
        self._rows = self._endless()

    def __len__(self) -> int:
        return len(self.head) + self.total - self.held_out

    def __getitem__(self, index: int) -> Sample:
        return self.head[index] if index < len(self.head) else self._at(index - len(self.head))

    def start(self, seed: int) -> Digests:
        """Begin at the beginning, in the order of a seed; return the digests of the head."""
        self.seed, self._next = seed, 0
        self._recent.clear()
        self._rows = self._endless()
        return Digests(images.digest(sample.image.read()) for sample in self.head)

    def _at(self, number: int) -> Sample:
        """Return the sample that comes as ``number``, reading on, or from the beginning if it is long gone."""
        if number < self._next and number not in self._recent:
            self._keep = max(2 * self._keep, self._next - number)
            self._next = 0
            self._recent.clear()
            self._rows = self._endless()
        while self._next <= number:
            self._recent[self._next] = next(self._rows)
            self._next += 1
            if len(self._recent) > self._keep:
                self._recent.popitem(last=False)
        return self._recent[number]

    def _endless(self) -> Iterator[Sample]:
        """Yield the samples to train on, again and again, each time in another order."""
        rest = self._data.skip(self.held_out)
        for epoch in itertools.count():
            seed = derive(self.seed, "stream", epoch) % 2**31
            for number, row in enumerate(rest.shuffle(seed=seed, buffer_size=self.asked.buffer)):
                yield self._sample(row, f"{self.asked.path}, sample {number} of epoch {epoch}")

    def _sample(self, row: dict[str, Any], name: str) -> Sample:
        captions = clean_all(row[self._caption], name)
        if not first(captions) and not self.asked.allow_bad_captions:
            message = f"{name}: there is no caption.\nTo train on it all the same: data.allow_bad_captions=true"
            raise DataError(message)
        return Sample(name, _bytes(row[self._image], name), first(captions) or "", others=others(captions))


def _bytes(cell: dict[str, Any] | None, name: str) -> arrow.Encoded:
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        message = f"{name}: the row holds no picture"
        raise DataError(message)
    return arrow.Encoded(ImageFile(cell["path"]).read() if cell["bytes"] is None else cell["bytes"])


def _columns(dataset: IterableDataset, asked: Asked) -> tuple[str, str]:
    pictures = [name for name, feature in dataset.features.items() if arrow.holds_images(feature)]
    image = columns.choose(list(dataset.features), pictures, asked.image_column, columns.IMAGES, asked.path)
    return image, arrow.find_captions(dataset, asked.caption_column, asked.path)


def _length(dataset: IterableDataset, asked: Asked) -> int:
    known = dataset.info.splits or {}
    told = getattr(known.get(str(dataset.split)), "num_examples", None)
    total = asked.samples or told
    if not total:
        message = (
            f"data.streaming: {asked.path} does not say how many samples it has, which steps and learning rate are "
            f"chosen by.\nSay about how many: data.num_samples=1000000"
        )
        raise DataError(message)
    return int(total)


def _held_out(total: int, split: float | str) -> int:
    """Return how many of the first samples are held out.

    Raises:
        DataError: More than fit into memory.
    """
    if split == "auto":
        return 0 if total < SMALLEST_SPLIT else min(LARGEST_SPLIT, total // 10)
    count = round(float(split) * total)
    if count > MOST_HELD:
        message = (
            f"data.validation_split={split} would hold out {count} samples of a stream, which lie in memory; at most "
            f"{MOST_HELD}: {MOST_HELD / total:.2g}."
        )
        raise DataError(message)
    return count
