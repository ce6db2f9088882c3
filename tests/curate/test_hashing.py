"""Pictures that look the same have nearly the same hash, and are found among many without comparing all with all."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.fft import dctn

from brushwork.curate import hashing
from brushwork.sources import captioned

if TYPE_CHECKING:
    from numpy.typing import NDArray


def photograph(number: int = 0, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """Return smooth random colours, which have the spectrum of a photograph."""
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def hashed(image: Image.Image) -> NDArray[np.uint64]:
    return hashing.as_hashes([hashing.perceptual_hash(hashing.luminance(image))])[0]


def bits_apart(first: Image.Image, second: Image.Image) -> int:
    return int(hashing.distance(hashed(first)[:1], hashed(second)[:1])[0])


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def random_hashes(count: int, seed: int = 0) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


def wrong(value: np.uint64, bits: int, seed: int) -> np.uint64:
    """Flip some bits."""
    places = np.random.default_rng(seed).choice(64, bits, replace=False)
    return value ^ np.uint64(sum(1 << int(place) for place in places))


def test_the_frequencies_are_those_of_scipy() -> None:
    grey = hashing.luminance(photograph()).astype(np.float64)
    ours = hashing.TRANSFORM @ grey @ hashing.TRANSFORM.T
    assert np.allclose(ours, dctn(grey, norm="ortho"))


def test_a_copy_in_another_size_quality_brightness_or_format_is_near() -> None:
    for number in range(20):
        image = photograph(number)
        copies = [
            image.resize((97, 80), Image.Resampling.LANCZOS),
            jpeg(image, 40),
            ImageEnhance.Brightness(image).enhance(0.8),
            ImageOps.grayscale(image),
        ]
        assert max(bits_apart(image, copy) for copy in copies) <= hashing.THRESHOLD


def test_the_second_hash_is_that_of_the_mirrored_picture() -> None:
    image = photograph()
    assert hashed(image)[::-1].tolist() == hashed(ImageOps.mirror(image)).tolist()


def test_unrelated_pictures_are_far_apart() -> None:
    hashes = np.stack([hashed(photograph(number)) for number in range(200)])
    assert hashing.first_of(hashes).tolist() == list(range(200))


def test_no_two_of_the_embedded_drawings_are_taken_for_one() -> None:
    for name in ("engravings", "sketches"):
        rows = captioned.find_rows(captioned.Config(path=name))
        opened = [Image.open(rows[index].image.path).convert("RGB") for index in range(0, len(rows), 2)]  # type: ignore[attr-defined]
        assert len(set(hashing.first_of(np.stack([hashed(each) for each in opened])).tolist())) == len(opened)


def test_a_picture_of_one_colour_has_the_hash_nought() -> None:
    assert hashed(Image.new("RGB", (50, 40), "teal")).tolist() == [0, 0]


@pytest.mark.parametrize("threshold", [0, 3, 6, 11])
def test_the_search_finds_what_comparing_all_with_all_finds(threshold: int) -> None:
    hashes = random_hashes(400)
    for place in range(0, 200, 2):  # half of them have a neighbour, up to 13 bits away
        hashes[place + 1, 0] = wrong(hashes[place, 0], place % 14, place)
    hashes = hashes[:, [0, 0]]
    every = {
        (a, b)
        for a in range(400)
        for b in range(a + 1, 400)
        if (int(hashes[a, 0]) ^ int(hashes[b, 0])).bit_count() <= threshold
    }
    different, place, pairs = hashing.alike(hashes, threshold, mirrored=False)
    found = {
        (a, b)
        for a in range(400)
        for b in range(a + 1, 400)
        if place[a] == place[b] or sorted((place[a], place[b])) in pairs.tolist()
    }
    assert found == every
    assert len(different) < 400


def test_of_what_repeats_one_another_the_highest_rank_is_kept_and_likeness_does_not_go_on() -> None:
    start = np.uint64(0x123456789ABCDEF0)
    chain = [start, start ^ np.uint64(0b111111), start ^ np.uint64(0b111111111111), start]
    hashes = np.array([[each, ~each] for each in chain], np.uint64)
    assert hashing.first_of(hashes, 6).tolist() == [0, 0, 2, 0]
    assert hashing.first_of(hashes, 6, rank=[1, 9, 1, 5]).tolist() == [1, 1, 1, 1]
    assert hashing.groups(hashes, 6).tolist() == [0, 0, 0, 0]


def test_a_mirror_image_counts_unless_it_is_not_meant_to() -> None:
    image, other = photograph(1), photograph(2)
    hashes = np.stack([hashed(image), hashed(other), hashed(ImageOps.mirror(image))])
    assert hashing.first_of(hashes).tolist() == [0, 1, 0]
    assert hashing.first_of(hashes, mirrored=False).tolist() == [0, 1, 2]
    assert hashing.matches(hashes[2:], hashes[:2]).tolist() == [0]
    assert hashing.matches(hashes[2:], hashes[:2], mirrored=False).tolist() == [-1]


def test_a_match_is_the_nearest() -> None:
    table = random_hashes(50)
    table[7, 0], table[9, 0] = wrong(table[3, 0], 5, 0), wrong(table[3, 0], 1, 1)
    assert hashing.matches(table[3:4], table[4:]).tolist() == [5]


def test_many_equal_pictures_are_no_burden() -> None:
    hashes = np.concatenate([np.zeros((20_000, 2), np.uint64), random_hashes(10)])
    assert hashing.first_of(hashes).tolist() == [0] * 20_000 + list(range(20_000, 20_010))


def test_no_pictures_have_no_duplicates() -> None:
    none = hashing.as_hashes([])
    assert hashing.first_of(none).tolist() == hashing.groups(none).tolist() == []
