"""Pictures that look the same: a perceptual hash, and near duplicates among many of them.

    hashes = np.array([perceptual_hash(luminance(image)) for image in images])    # (N, 2) uint64
    same = first_of(hashes)                 # (N,): which picture each one repeats; itself where it repeats none

The hash is the sign of the 64 lowest frequencies of a 32 x 32 grey picture's discrete cosine transform (after Zauner
2010, Implementation and Benchmarking of Perceptual Image Hash Functions, which takes an 8 x 8 block; the triangle of
the lowest ones here is the same in both directions). The second number is the hash of the mirrored picture, which costs
nothing: mirroring negates every second column of the transform. Two pictures are near duplicates when their hashes
differ in at most ``THRESHOLD`` of the 64 bits.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    Hashes = NDArray[np.uint64]
    """(N, 2): the hash of a picture and of its mirror image."""
    Places = NDArray[np.intp]

SIDE, BITS = 32, 64
THRESHOLD = 6
"""Of 64 bits. Hashes of unrelated pictures differ in 32 on average; two random ones so nearly agree once in 10^11."""
UNSURE = 0.02
"""A frequency weaker than this share of the strongest is rounding, and counts as not positive in both directions."""
BANDS, BAND_BITS = 4, 16
MOST = 11
"""The largest threshold that can be searched for: two wrong bits in each band."""
AT_ONCE = 4_000_000
"""So many candidates are compared at a time, which bounds the memory to some 200 MB."""


def _transform() -> NDArray[np.float64]:
    """Return the orthonormal DCT-II of length ``SIDE`` as a matrix."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    matrix: NDArray[np.float64] = np.cos(np.pi * rows * (2 * columns + 1) / (2 * SIDE)) * np.sqrt(2 / SIDE)
    matrix[0] /= np.sqrt(2)
    return matrix


TRANSFORM = _transform()
LOWEST = sorted(itertools.product(range(SIDE), repeat=2), key=lambda place: (sum(place), place))[1 : 1 + BITS]
"""(row, column) of the lowest frequencies, without the mean."""
ROWS, COLUMNS = (np.array(each) for each in zip(*LOWEST, strict=True))
MIRROR = np.where(COLUMNS % 2, -1.0, 1.0)


def luminance(image: Image) -> NDArray[np.uint8]:
    """Return a picture as 32 x 32 grey values, averaged over areas; (32, 32)."""
    from PIL import Image as Pillow

    # Reduced first by a whole number: as good, and a tenth of the time of resizing a photograph at once.
    factors = [max(1, side // (4 * SIDE)) for side in image.size]
    smaller = image.reduce((factors[0], factors[1])) if max(factors) > 1 else image
    return np.asarray(smaller.convert("L").resize((SIDE, SIDE), Pillow.Resampling.BOX))


def perceptual_hash(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the hashes of a 32 x 32 grey picture and of its mirror image, 64 bits each.

    A picture without any contrast has the hash 0.
    """
    frequencies = (TRANSFORM @ grey.astype(np.float64) @ TRANSFORM.T)[ROWS, COLUMNS]
    strongest = np.abs(frequencies).max()
    if strongest < 1e-6:  # noqa: PLR2004  (rounding of a single colour)
        return 0, 0
    plain, mirrored = (each > UNSURE * strongest for each in (frequencies, frequencies * MIRROR))
    return _pack(plain), _pack(mirrored)


def _pack(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def as_hashes(pairs: Sequence[tuple[int, int]]) -> Hashes:
    """Return hashes as the array that the searches take, (N, 2)."""
    return np.array(pairs, np.uint64).reshape(-1, 2)


def distance(first: Hashes, second: Hashes) -> NDArray[np.int64]:
    """Return in how many bits hashes differ, elementwise over equal shapes."""
    # The bits are added up in ever wider fields (SWAR); numpy before 2.0 cannot count them.
    x = first ^ second
    x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((x * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)


def near(queries: Hashes, table: Hashes, threshold: int = THRESHOLD) -> Iterator[tuple[Places, Places]]:
    """Yield (places in ``queries``, places in ``table``) of all that differ in at most ``threshold`` bits.

    Args:
        queries: Hashes (N,), not those of mirrored pictures beside them.
        table: Hashes (M,).
        threshold: Of 64 bits.

    A pair comes once or several times. Of two hashes that differ in few bits some sixteenth-bit band differs in a
    quarter of them at most (Norouzi et al. 2012, arXiv:1307.2982), so only those are compared that lie near each other
    in some band.
    """
    assert 0 <= threshold <= MOST, f"a threshold of {threshold} is not between 0 and {MOST}"
    flips = [
        sum(1 << bit for bit in bits)
        for count in range(threshold // BANDS + 1)
        for bits in itertools.combinations(range(BAND_BITS), count)
    ]
    for band in range(BANDS):
        asked, stored = (_band(each, band) for each in (queries, table))
        order = np.argsort(stored, kind="stable")
        starts = np.searchsorted(stored[order], np.arange(2**BAND_BITS + 1))
        for flip in flips:
            wanted = asked ^ flip
            yield from _compare(queries, table, order, starts[wanted], starts[wanted + 1], threshold)


def _band(hashes: Hashes, band: int) -> NDArray[np.int64]:
    return ((hashes >> np.uint64(band * BAND_BITS)) & np.uint64(2**BAND_BITS - 1)).astype(np.int64)


def _compare(
    queries: Hashes, table: Hashes, order: Places, begin: Places, end: Places, threshold: int
) -> Iterator[tuple[Places, Places]]:
    """Compare each query with ``table[order[begin:end]]``, a bounded number of them at a time."""
    counts = end - begin
    totals = np.cumsum(counts)
    first = 0
    while first < len(queries):
        done = totals[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(totals, done + AT_ONCE, side="right")))
        some = counts[first:last]
        asked = np.repeat(np.arange(first, last), some)
        offsets = np.arange(len(asked)) - np.repeat(np.cumsum(some) - some, some)
        found = order[np.repeat(begin[first:last], some) + offsets]
        alike = distance(queries[asked], table[found]) <= threshold
        if alike.any():
            yield asked[alike], found[alike]
        first = last


def alike(hashes: Hashes, threshold: int = THRESHOLD, *, mirrored: bool = True) -> tuple[Hashes, Places, Places]:
    """Return the different hashes, for each picture which of them it has, and the pairs of them that are near.

    Args:
        hashes: (N, 2).
        threshold: Of 64 bits.
        mirrored: Whether a mirror image counts as the same picture.

    Returns:
        The different hashes (U,), the place of each picture's among them (N,), and pairs of places (P, 2) in ascending
        order. Pictures with the same hash are one entry, so that a thousand equal ones are not half a million pairs.
    """
    different, first, place = np.unique(hashes[:, 0], return_index=True, return_inverse=True)
    found = []
    sides = [different, hashes[first, 1]] if mirrored else [different]
    for side in sides:
        found += [np.stack([a, b], axis=1) for a, b in near(side, different, threshold)]
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.intp)
    pairs = np.sort(pairs, axis=1)
    return different, place.reshape(-1), np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def first_of(
    hashes: Hashes, threshold: int = THRESHOLD, *, mirrored: bool = True, rank: Sequence[float] | None = None
) -> Places:
    """Return which picture each one repeats, (N,); itself where it repeats none, and then it is one to keep.

    Of pictures that repeat one another the one with the highest ``rank`` is kept (default: the first). What is near to
    one that is left out, and not to one that is kept, is kept too: likeness does not go on from picture to picture.
    """
    count = len(hashes)
    _, place, pairs = alike(hashes, threshold, mirrored=mirrored)
    order = np.arange(count) if rank is None else np.argsort(-np.asarray(rank, np.float64), kind="stable")
    best = np.full(place.max(initial=-1) + 1, -1, np.intp)
    best[place[order[::-1]]] = order[::-1]  # of each hash the picture that comes first in the order
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    kept = np.full(len(best), -1, np.intp)
    for picture in order[np.isin(order, best)].tolist():
        own = place[picture]
        if kept[own] < 0:
            for each in (own, *neighbours.get(int(own), ())):
                kept[each] = picture if kept[each] < 0 else kept[each]
    return kept[place]


def groups(hashes: Hashes, threshold: int = THRESHOLD, *, mirrored: bool = True) -> Places:
    """Return a number for each picture that all share which hang together through near duplicates, (N,)."""
    different, place, pairs = alike(hashes, threshold, mirrored=mirrored)
    parent = list(range(len(different)))

    def root(each: int) -> int:
        while parent[each] != each:
            parent[each] = parent[parent[each]]
            each = parent[each]
        return each

    for a, b in pairs.tolist():
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return np.array([root(each) for each in range(len(different))], np.intp)[place]


def matches(queries: Hashes, table: Hashes, threshold: int = THRESHOLD, *, mirrored: bool = True) -> Places:
    """Return for each of (N, 2) the nearest of (M, 2) that is a near duplicate, (N,); -1 where there is none."""
    best = np.full(len(queries), -1, np.intp)
    least = np.full(len(queries), threshold + 1, np.int64)
    for side in (0, 1) if mirrored else (0,):
        for asked, found in near(queries[:, side], table[:, 0], threshold):
            bits = distance(queries[asked, side], table[found, 0])
            # The nearest is written last, of equally near ones the first in the table.
            order = [place for place in np.lexsort((found, bits))[::-1] if bits[place] < least[asked[place]]]
            best[asked[order]], least[asked[order]] = found[order], bits[order]
    return best
