"""Pictures become upright RGB squares, and what is no picture is named."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from brushwork import images
from brushwork.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def noise(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


# What a camera stores so that a viewer, obeying the orientation, shows the upright picture: (N, rotation, mirror).
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_brought_upright(file_format: str, orientation: int) -> None:
    upright = pixels_of(noise())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    exact = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "JPEG": {"quality": 100}}
    data = encode(stored, file_format, exif=exif, **exact.get(file_format, {}))
    decoded = images.decode(data)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(pixels_of(decoded), pixels_of(ImageOps.exif_transpose(image).convert("RGB")))
    if file_format in ("PNG", "TIFF", "WEBP"):
        assert np.array_equal(pixels_of(decoded), upright)


def test_damaged_exif_data_count_as_none() -> None:
    data = encode(noise(), "JPEG", exif=b"Exif\0\0nonsense that is no TIFF header", quality=100)
    assert images.decode(data).size == (24, 16)


@pytest.mark.parametrize(("background", "expected"), [("white", 255), ("black", 0), ("#808080", 128)])
def test_transparency_is_laid_on_the_background(background: str, expected: int) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0, 0))
    image.putpixel((1, 0), (200, 100, 0, 51))
    pixels = pixels_of(images.decode(encode(image), background))
    assert pixels[3, 3].tolist() == [255, 0, 0]
    assert pixels[0, 0].tolist() == [expected] * 3
    blended = [round(0.2 * colour + 0.8 * expected) for colour in (200, 100, 0)]
    assert np.abs(pixels[0, 1].astype(int) - blended).max() <= 1


def test_transparent_palettes_greys_and_keys_are_flattened() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    grey = Image.new("LA", (2, 1), (10, 255))
    grey.putpixel((0, 0), (10, 0))
    key = Image.new("RGB", (2, 1), (1, 2, 3))
    key.putpixel((1, 0), (9, 9, 9))
    for data, second in [
        (encode(palette, transparency=0), [0, 255, 0]),
        (encode(palette, transparency=b"\x00\xff"), [0, 255, 0]),
        (encode(palette, "GIF", transparency=0), [0, 255, 0]),
        (encode(grey), [10, 10, 10]),
        (encode(key, transparency=(1, 2, 3)), [9, 9, 9]),
    ]:
        pixels = pixels_of(images.decode(data, "blue"))
        assert pixels[0].tolist() == [[0, 0, 255], second]


def test_greys_and_bitmaps_become_rgb() -> None:
    grey = Image.linear_gradient("L")
    assert np.array_equal(pixels_of(images.decode(encode(grey)))[..., 1], pixels_of(grey))
    assert pixels_of(images.decode(encode(Image.new("1", (2, 2), 1)))).min() == 255


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_greys_are_scaled_and_not_clipped(file_format: str) -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    pixels = pixels_of(images.decode(encode(Image.fromarray(levels), file_format)))
    assert np.array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))


def test_sixteen_bit_colours_keep_their_high_bytes() -> None:
    high = np.arange(256).reshape(16, 16)
    rows = b"".join(b"\0" + b"".join(bytes([value, 255 - value]) * 3 for value in row) for row in high)
    assert np.array_equal(pixels_of(images.decode(_png_48_bits(rows, 16, 16)))[..., 0], high)


def _png_48_bits(rows: bytes, width: int, height: int) -> bytes:
    """Write a PNG of 16 bits a channel, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_printing_inks_become_light() -> None:
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for file_format in ("JPEG", "TIFF"):
        red, green, blue = pixels_of(images.decode(encode(inks, file_format)))[0, 0].tolist()
        assert red > 240
        assert green < 15
        assert blue < 15


def test_a_profile_that_does_not_fit_the_inks_is_passed_over() -> None:
    wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (wrong, b"no profile"):
        data = encode(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG", icc_profile=profile)
        assert pixels_of(images.decode(data)).max() < 10


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(file_format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100)
    red, _, blue = pixels_of(images.decode(data))[0, 0].tolist()
    assert red > 240
    assert blue < 15


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_cut_file_is_named(file_format: str) -> None:
    data = encode(noise(64, 64), file_format)
    with pytest.raises(DataError, match=r"^cats/tom: "):
        images.decode(data[: len(data) // 2], name="cats/tom")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_no_damage_ends_in_anything_but_a_data_error(file_format: str) -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    data = encode(noise(48, 40), file_format, **({"exif": exif} if file_format in ("JPEG", "PNG") else {}))
    generator = np.random.default_rng(0)
    for attempt in range(60):
        damaged = bytearray(data[: generator.integers(1, len(data))] if attempt % 2 else data)
        for _ in range(int(generator.integers(1, 12))):
            damaged[generator.integers(min(len(damaged), 300))] = generator.integers(256)
        try:
            said = images.decode(bytes(damaged), name="x").mode
        except DataError as error:
            said = str(error)
        assert said == "RGB" or (said.startswith("x: ") and "\n" not in said)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
)
def test_what_is_no_picture_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"^notes\.png: .*{reason}"):
        images.decode(data, name="notes.png")


def test_a_picture_of_too_many_pixels_is_refused_with_both_numbers() -> None:
    data = _png_48_bits(b"", 20_000, 20_000)
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    with pytest.raises(DataError, match=rf"^huge\.png: .*400000000.*{limit}"):
        images.decode(data, name="huge.png")


def test_a_large_picture_below_the_limit_is_opened_without_a_warning() -> None:
    assert images.inspect(io.BytesIO(_png_48_bits(b"", 10_000, 10_000)), "large").size == (10_000, 10_000)


def test_a_picture_that_is_a_line_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match="1x51, more than 50 times"):
        images.decode(encode(Image.new("L", (1, 51))), name="line")


def test_floating_point_pixels_are_refused() -> None:
    data = encode(Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "TIFF")
    with pytest.raises(DataError, match="floating-point pixels have no known range"):
        images.decode(data)


@pytest.mark.parametrize(
    ("size", "resized", "box"),
    [
        ((100, 60), (53, 32), (10, 0, 42, 32)),  # round(21 / 2) = 10: to even, as torchvision's CenterCrop
        ((60, 100), (32, 53), (0, 10, 32, 42)),
        ((33, 32), (33, 32), (0, 0, 32, 32)),
        ((20, 20), (32, 32), (0, 0, 32, 32)),
    ],
)
def test_the_centre_square_is_torchvisions(
    size: tuple[int, int], resized: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = noise(*size)
    expected = image.resize(resized, Image.Resampling.LANCZOS).crop(box)
    assert np.array_equal(images.square(image, 32, centre=True, flip=False), pixels_of(expected))


def test_a_random_square_reaches_every_place_and_only_those() -> None:
    image = noise(40, 32)
    for place in range(9):
        for share in (place / 9 + 1e-9, (place + 1) / 9 - 1e-9):
            crop = images.square(image, 32, centre=False, flip=False, random_xy=(share, 0.999))
            assert np.array_equal(crop, pixels_of(image)[:, place : place + 32])


def test_flip_mirrors_the_same_square() -> None:
    image = noise(40, 32)
    plain = images.square(image, 32, centre=True, flip=False)
    assert np.array_equal(images.square(image, 32, centre=True, flip=True), plain[:, ::-1])


def test_pixels_are_those_of_to_tensor_and_normalize() -> None:
    array = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    pixels = images.to_pixels(array)
    expected = (torch.arange(256, dtype=torch.float32).div(255) - 0.5) / 0.5
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()
    assert all(torch.equal(channel.flatten(), expected) for channel in pixels)
    assert (pixels.min(), pixels.max()) == (-1, 1)


def test_pixels_do_not_share_memory_with_the_array() -> None:
    array = np.zeros((2, 2, 3), dtype=np.uint8)
    array.flags.writeable = False
    images.to_pixels(array).add_(1)
    assert array.max() == 0


def test_a_digest_is_of_the_bytes() -> None:
    assert images.digest(b"abc") == "cf4ab791c62b8d2b2109c90275287816"
