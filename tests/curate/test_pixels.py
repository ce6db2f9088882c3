"""The fast image path: the same picture as the careful one, as far as its filter allows, and the same refusals."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from skimage import data as photographs
from skimage.metrics import peak_signal_noise_ratio

from brushwork import images
from brushwork.curate import hashing, pixels, resizing
from brushwork.curate.pixels import PictureConfig, UnfitError, standardise

SIZE = 128


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 95} if form == "JPEG" else {}) | options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def lossless(**changes: Any) -> PictureConfig:
    return PictureConfig(size=SIZE, format="png", **changes)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return a smooth picture that looks different in every corner."""
    shape = (5, 5, len(mode)) if len(mode) > 1 else (5, 5)
    small = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(small, mode).resize((width, height), Image.Resampling.BICUBIC)


def shorter_side(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the size whose shorter side is the target."""
    width, height = size
    return (target, int(target * height / width)) if width <= height else (int(target * width / height), target)


def carefully(data: bytes, size: int = SIZE) -> Image.Image:
    """Decode with Pillow and average over areas, as the fast path promises to look."""
    image = images.decode(data)
    return image.resize(shorter_side(image.size, size), Image.Resampling.BOX)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field"])
@pytest.mark.parametrize("ratio", [1.5, 2, 3])
def test_photographs_look_as_through_pillows_lanczos(name: str, ratio: float) -> None:
    image = Image.fromarray(getattr(photographs, name)())
    size = int(min(image.size) / ratio)
    data = encoded(image)
    made = opened(standardise(data, PictureConfig(size=size, format="png")).data)
    target = shorter_side(image.size, size)
    expected = opened(data).resize(target, Image.Resampling.LANCZOS)
    assert made.size == expected.size
    assert peak_signal_noise_ratio(np.asarray(expected), np.asarray(made)) > 33


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [64, 300])  # reduced while decoding, and not
def test_every_orientation_is_turned_upright(orientation: int, size: int) -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    data = encoded(noise(400, 320), exif=exif)
    made = standardise(data, PictureConfig(size=size, format="png"))
    expected = carefully(data, size)
    assert (made.width, made.height) == expected.size
    assert (made.original_width, made.original_height) == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size
    assert peak_signal_noise_ratio(np.asarray(expected), np.asarray(opened(made.data))) > 35


@pytest.mark.parametrize(
    "data",
    [
        encoded(noise(320, 256), "PNG"),
        encoded(noise(320, 256).convert("L"), "PNG"),
        encoded(noise(320, 256).convert("L")),
        encoded(noise(320, 256), "WEBP", lossless=True),
        encoded(noise(320, 256).convert("CMYK")),
        encoded(noise(320, 256, "RGBA"), "PNG"),
        encoded(noise(320, 256).convert("P"), "PNG", transparency=0),
        encoded(noise(320, 256).convert("1"), "PNG"),
        encoded(noise(320, 256).convert("P"), "GIF", save_all=True, append_images=[noise(320, 256).convert("P")] * 2),
        encoded(Image.fromarray(np.linspace(0, 65535, 320 * 256).astype(np.uint16).reshape(256, 320)), "PNG"),
        encoded(noise(320, 256), "BMP"),
        encoded(noise(320, 256), "TIFF"),
        encoded(noise(320, 256)) + b"more bytes than the picture has",
    ],
    ids=[
        "png",
        "grey png",
        "grey jpeg",
        "webp",
        "inks",
        "alpha",
        "palette",
        "bits",
        "animation",
        "deep",
        "bmp",
        "tiff",
        "tail",
    ],
)
def test_every_kind_of_picture_becomes_the_same_as_with_pillow(data: bytes) -> None:
    made = opened(standardise(data, lossless()).data)
    assert peak_signal_noise_ratio(np.asarray(carefully(data)), np.asarray(made)) > 38


def test_a_colour_profile_is_converted_to_srgb() -> None:
    """In this profile red and blue have changed their places, so a red picture is a blue one."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"?XYZ"), (b"bXYZ", b"rXYZ"), (b"?XYZ", b"bXYZ")):
        profile = profile.replace(old, new)
    profile = profile.replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be"))
    red = Image.new("RGB", (200, 160), (250, 10, 20))
    for form in ("JPEG", "PNG"):
        converted = np.asarray(opened(standardise(encoded(red, form, icc_profile=profile), lossless()).data))
        assert np.abs(converted.reshape(-1, 3).mean(axis=0) - (20, 10, 250)).max() < 6
    plain = np.asarray(opened(standardise(encoded(red, icc_profile=b"no profile"), lossless()).data))
    assert np.abs(plain.reshape(-1, 3).mean(axis=0) - (250, 10, 20)).max() < 6


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that says it is huge."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b"nothing much"), b"IEND")
    packed = (struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not-an-image"),
        (b"<html></html>", "not-an-image"),
        (encoded(noise(300, 200))[:-500], "damaged"),
        (encoded(noise(300, 200), "PNG")[:-500], "damaged"),
        (encoded(noise(300, 200), "WEBP")[:-500], "damaged"),
        (bomb(20_000, 20_000), "too-many-pixels"),
        (bomb(12_000, 12_000), "too-many-pixels"),
        (encoded(noise(8000, 130)), "too-long"),
        (encoded(noise(200, 127)), "too-small"),
    ],
)
def test_what_is_not_fit_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnfitError, match=f"^{reason}$"):
        standardise(data, lossless())


def test_small_pictures_are_enlarged_only_when_asked() -> None:
    made = standardise(encoded(noise(96, 64)), lossless(upscale=True))
    assert (made.width, made.height) == (192, 128)


def test_transparency_is_laid_on_the_background() -> None:
    clear = encoded(Image.new("RGBA", (200, 160), (0, 0, 0, 0)), "PNG")
    made = opened(standardise(clear, lossless(background="#204060")).data)
    assert made.getpixel((3, 3)) == (0x20, 0x40, 0x60)


@pytest.mark.parametrize(("width", "height"), [(400, 200), (200, 400)])
def test_squares_come_from_the_middle_or_from_where_the_detail_is(width: int, height: int) -> None:
    flat = np.full((height, width, 3), 128, np.uint8)
    busy = flat.copy()
    busy[-150:, -150:] = np.random.default_rng(0).integers(0, 256, (150, 150, 1), dtype=np.uint8)
    centre = opened(standardise(encoded(Image.fromarray(busy), "PNG"), lossless(mode="centre")).data)
    smart = opened(standardise(encoded(Image.fromarray(busy), "PNG"), lossless(mode="smart")).data)
    assert centre.size == smart.size == (SIZE, SIZE)
    assert np.asarray(smart).std() > 1.5 * np.asarray(centre).std()
    assert pixels.most_detail(flat, min(width, height), int(width > height)) == 100


def test_the_hash_is_that_of_pillows_way() -> None:
    data = encoded(Image.fromarray(photographs.astronaut()))
    made = standardise(data, PictureConfig(size=SIZE))
    grey = hashing.luminance(opened(data))
    slow = hashing.as_hashes([hashing.perceptual_hash(grey)])
    assert hashing.distance(hashing.as_hashes([made.hashes]), slow).max() <= 2


def test_jpegs_are_reduced_while_they_stay_large_enough() -> None:
    sides = (511, 512, 1023, 1024, 2048, 4096, 99_999)
    assert [resizing.reduction(side, 512) for side in sides] == [1, 1, 1, 2, 4, 8, 8]


@pytest.mark.parametrize("side", [100, 256, 511, 512])
def test_grey_means_are_those_over_equal_areas(side: int) -> None:
    picture = np.asarray(Image.fromarray(photographs.coffee()).resize((side * 3 // 2 + 1, side)))
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float64)
    expected = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    made = resizing.means(picture, 32)
    assert np.abs(made - expected).mean() < 1
    both = hashing.as_hashes([hashing.perceptual_hash(each.round().astype(np.uint8)) for each in (made, expected)])
    assert hashing.distance(both[:1], both[1:]).max() <= 1


@pytest.mark.parametrize("ratio", [1.6, 1.75, 1.9, 1.99])
def test_smoothing_and_sharpening_is_nearer_to_lanczos_than_a_mean_over_areas(ratio: float) -> None:
    for name in ("astronaut", "coffee", "rocket"):
        picture = getattr(photographs, name)()
        size = (int(picture.shape[1] / ratio), int(picture.shape[0] / ratio))
        expected = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
        area = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        made = resizing.resize(picture, *size)
        assert peak_signal_noise_ratio(expected, made) > 0.5 + peak_signal_noise_ratio(expected, area)
