"""Aspect-ratio buckets: pictures of like shape are cropped to one size, and a batch holds pictures of one size.

    fit((3000, 2000), 512, 64)                  # (640, 384): about 512 x 512 pixels, sides multiples of 64
    order = Order(shapes, batch=4, seed=0)
    order(17)                                   # which of the pictures is seen as number 17

A picture is never enlarged unless that is asked for: one that is too small for any full-sized bucket gets one of its
own size, rounded down. What does not fill a batch in one epoch is carried over to the next, so over time every picture
is seen equally often, and which one is seen as number p follows from p and the seed alone: nothing to save, exact to
resume.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from brushwork.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Size = tuple[int, int]
    """Width and height in pixels."""

USUAL_STEP = 64
LONGEST = 2
"""A side is at most so many times the resolution, so the longest bucket is four times as long as wide."""


def usual_step(resolution: int, unit: int) -> int:
    """Return the step of the sides that nobody gave: 64, of small resolutions an eighth, a multiple of ``unit``."""
    return max(unit, min(USUAL_STEP, resolution // 8) // unit * unit)


@functools.cache
def full_sizes(resolution: int, step: int) -> list[Size]:
    """Return the buckets of at most ``resolution`` squared pixels: for each width the largest height, and turned."""
    longest, area = LONGEST * resolution, resolution**2
    sides = range(step, longest + 1, step)
    tall = {(width, min(longest, area // width // step * step)) for width in sides}
    return sorted(size for size in tall | {(height, width) for width, height in tall} if min(size) >= step)


@functools.lru_cache(maxsize=65536)
def fit(size: Size, resolution: int, step: int, *, upscale: bool = False) -> Size:
    """Return the bucket of a picture; (0, 0) for one that is smaller than a step and must not be enlarged.

    Of the full-sized buckets that it fills without being enlarged, the one nearest to its shape.
    """
    width, height = size
    possible = [each for each in full_sizes(resolution, step) if upscale or (each[0] <= width and each[1] <= height)]
    if possible:
        # Rounded, so that of two equally near ones the larger is taken whichever way the picture lies.
        return min(
            possible,
            key=lambda each: (
                round(abs(math.log(each[0] / each[1] * height / width)), 9),
                -each[0] * each[1],
                max(each),
            ),
        )
    sides = [min(side, LONGEST * resolution) // step * step for side in size]
    if min(sides) == 0:
        return 0, 0
    longer = max(sides)
    shorter = min(sides)
    longer = min(longer, resolution**2 // shorter // step * step)
    return (longer, shorter) if width >= height else (shorter, longer)


def covered(size: Size, target: Size) -> Size:
    """Return the size to which a picture is resized so that ``target`` can be cropped out of it."""
    (width, height), (wide, high) = size, target
    if wide * height >= high * width:
        return wide, max(high, int(wide * height / width))
    return max(wide, int(high * width / height)), high


def lost(size: Size, target: Size) -> tuple[float, float]:
    """Return the share of a picture's area that cropping cuts off, and by how much it is scaled (above 1: enlarged)."""
    width, height = covered(size, target)
    return 1 - target[0] * target[1] / (width * height), width / size[0]


class Order:
    """Which picture is seen as number p, when batches hold one shape.

    Args:
        shapes: The number of each picture's shape (N,).
        names: What the shapes are called, for the seeds: adding pictures of one shape does not reshuffle another.
        batch: Pictures in a micro-batch; numbers p from k * batch to (k + 1) * batch - 1 have one shape.
        seed: Decides the order.
    """

    def __init__(self, shapes: NDArray[np.integer], names: Sequence[str], batch: int, seed: int) -> None:
        self.batch, self.seed, self.names = batch, seed, names
        self.places = np.argsort(shapes, kind="stable").astype(np.int32)
        self.counts: list[int] = np.bincount(shapes, minlength=len(names)).tolist()
        self.starts = np.cumsum([0, *self.counts])
        self.shuffled = functools.lru_cache(maxsize=2 * len(names))(self._shuffled)
        self.schedule = functools.lru_cache(maxsize=2)(self._schedule)

    def __getstate__(self) -> dict[str, object]:
        """Leave what can be computed again behind when going to another process."""
        return {key: value for key, value in vars(self).items() if key not in ("shuffled", "schedule")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self.shuffled = functools.lru_cache(maxsize=2 * len(self.names))(self._shuffled)
        self.schedule = functools.lru_cache(maxsize=2)(self._schedule)

    def __call__(self, position: int) -> int:
        """Return the place of the picture that is seen as number ``position``."""
        number, slot = divmod(position, self.batch)
        epoch = position // len(self.places)
        while self._before(epoch + 1) <= number:
            epoch += 1
        shape, nth = self.schedule(epoch)[number - self._before(epoch)]
        turn, place = divmod(int(nth) * self.batch + slot, self.counts[shape])
        return int(self.places[self.starts[shape] + self.shuffled(int(shape), turn)[place]])

    def _full(self, shape: int, epoch: int) -> int:
        """Return how many batches of a shape are full when its pictures have been dealt out ``epoch`` times."""
        return epoch * self.counts[shape] // self.batch

    def _before(self, epoch: int) -> int:
        return sum(self._full(shape, epoch) for shape in range(len(self.counts)))

    def _schedule(self, epoch: int) -> NDArray[np.int32]:
        """Return the batches of an epoch in shuffled order: (shape, which of its batches), (K, 2)."""
        rows = [
            np.stack([np.full(last - first, shape), np.arange(first, last)], axis=1)
            for shape in range(len(self.counts))
            for first, last in [(self._full(shape, epoch), self._full(shape, epoch + 1))]
        ]
        every = np.concatenate(rows).astype(np.int32)
        return every[np.random.default_rng(derive(self.seed, "order", epoch)).permutation(len(every))]

    def _shuffled(self, shape: int, turn: int) -> NDArray[np.int32]:
        generator = np.random.default_rng(derive(self.seed, "order", self.names[shape], turn))
        return generator.permutation(self.counts[shape]).astype(np.int32)
