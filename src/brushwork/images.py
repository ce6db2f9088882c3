"""Pictures: from encoded bytes to RGB, to a square of pixels, to the numbers that a model is trained on.

image = decode(Path("cat.jpg").read_bytes(), name="cat.jpg")
pixels = to_pixels(square(image, 512, centre=True, flip=False))     # float32 (3, 512, 512) in [-1, 1]
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from brushwork.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is opened; Pillow knows more, some of which (EPS) start other programs."""

SIXTEEN_BITS = 0xFFFF

MAX_ASPECT = 50
"""How many times as long as wide a picture may be: its short side becomes the resolution and its long side follows."""

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture with each EXIF orientation upright."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""

# What Pillow's decoders raise on damaged files.
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, RuntimeError, struct.error)

_opening = threading.Lock()  # the warning filters below belong to the whole process


def digest(data: bytes) -> str:
    """Return a hash of bytes, for content-addressed keys.

    >>> digest(b"abc")
    'cf4ab791c62b8d2b2109c90275287816'
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def decode(data: bytes, background: str = "white", name: str = "") -> Image.Image:
    """Decode a picture to upright RGB; transparency is laid on ``background``; of an animation, the first frame.

    Raises:
        DataError: The bytes are not a picture, are damaged, or hold too many pixels; the message begins with ``name``.
    """
    name = name or "picture"
    with inspect(io.BytesIO(data), name) as image:
        try:
            image.load()
            return _flatten(_upright(image), background)
        except BROKEN as error:
            message = f"{name}: the picture is damaged ({_first_line(error)})"
            raise DataError(message) from error


def inspect(file: Path | io.BytesIO, name: str) -> Image.Image:
    """Open a picture and check its header; the pixels are not decoded yet.

    Raises:
        DataError: It is not a picture or holds too many pixels.
    """
    try:
        # Pillow warns at half of its limit; the limit itself is what counts here.
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=_formats())
    except Image.DecompressionBombError as error:
        message = f"{name}: {_first_line(error)} Make it smaller."
        raise DataError(message) from error
    except UnidentifiedImageError as error:
        message = f"{name}: {_what_else(file)}"
        raise DataError(message) from error
    except BROKEN as error:
        message = f"{name}: the picture cannot be opened ({_first_line(error)})"
        raise DataError(message) from error
    if max(image.size) > MAX_ASPECT * min(image.size):
        size = f"{image.width}x{image.height}"
        message = f"{name}: the picture is {size}, more than {MAX_ASPECT} times as long as wide. Crop it."
        raise DataError(message)
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(each for each in FORMATS if each in Image.OPEN)


def _what_else(file: Path | io.BytesIO) -> str:
    """Say what bytes are that are no picture."""
    if isinstance(file, io.BytesIO):
        start = file.getvalue()[:64]
    else:
        with file.open("rb") as opened:
            start = opened.read(64)
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the picture. Run: git lfs pull"
    return "this is not a picture in a known format, or it is damaged"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; unreadable EXIF data count as none."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
        except BROKEN:
            turn = None
    return image if turn is None else image.transpose(turn)


def _flatten(image: Image.Image, background: str) -> Image.Image:
    """Convert any mode to RGB."""
    if image.mode == "F":
        message = "floating-point pixels have no known range; save it with 8 or 16 bits"
        raise ValueError(message)
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    above = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
    below = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(below, above).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit greys to 8 bits by scale (Pillow's own conversion clips them to white)."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > SIXTEEN_BITS:
        message = f"its greys run from {grey.min()} to {grey.max()}, more than 16 bits; save it with 8 or 16 bits"
        raise ValueError(message)
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8))


def _from_cmyk(image: Image.Image) -> Image.Image:
    """Convert printing inks by the picture's own colour profile where it has a usable one."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def square(
    image: Image.Image,
    resolution: int,
    *,
    centre: bool,
    flip: bool,
    random_xy: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Resize the shorter side to ``resolution`` (Lanczos), crop a square, mirror it if ``flip``.

    The arithmetic is that of torchvision's Resize, CenterCrop and RandomCrop: the same picture gives the same pixels.

    Args:
        image: RGB.
        resolution: Pixels a side.
        centre: Crop the middle; otherwise ``random_xy`` says where.
        flip: Mirror left and right.
        random_xy: Two numbers in [0, 1): how far to the right and how far down the square lies.

    Returns:
        uint8, (resolution, resolution, 3).
    """
    resized = image.resize(_shorter_side(image.size, resolution), Image.Resampling.LANCZOS)
    left, top = corner(image.size, resolution, None if centre else random_xy)
    cropped = resized.crop((left, top, left + resolution, top + resolution))
    return np.array(cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else cropped)


def corner(size: tuple[int, int], resolution: int, random_xy: tuple[float, float] | None) -> tuple[int, int]:
    """Return left and top of the square in the resized picture; without ``random_xy`` it is the middle."""
    width, height = _shorter_side(size, resolution)
    space_x, space_y = width - resolution, height - resolution
    if random_xy is None:
        return round(space_x / 2), round(space_y / 2)
    return int(random_xy[0] * (space_x + 1)), int(random_xy[1] * (space_y + 1))


def geometry(
    size: tuple[int, int], resolution: int, *, flip: bool, random_xy: tuple[float, float] | None = None
) -> tuple[int, ...]:
    """Return what Stable Diffusion XL is told (arXiv:2307.01952, section 2.2), of the picture as ``square`` shows it.

    Height and width before it was resized, top and left of the crop in the resized one, the crop's height and width.
    """
    left, top = corner(size, resolution, random_xy)
    if flip:
        left = _shorter_side(size, resolution)[0] - resolution - left
    return size[1], size[0], top, left, resolution, resolution


def size(data: bytes, name: str = "") -> tuple[int, int]:
    """Return width and height of a picture as it is shown, without decoding it.

    Raises:
        DataError: The bytes are not a picture.
    """
    with inspect(io.BytesIO(data), name or "picture") as image:
        try:
            sideways = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        except BROKEN:  # unreadable EXIF data count as none
            sideways = False
        return image.size[::-1] if sideways else image.size


def _shorter_side(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return resolution, int(resolution * height / width)
    return int(resolution * width / height), resolution


def to_pixels(array: NDArray[np.uint8]) -> torch.Tensor:
    """Turn uint8 (H, W, 3) into float32 (3, H, W) in [-1, 1]: torchvision's ToTensor, then Normalize([0.5], [0.5])."""
    import torch

    pixels = torch.from_numpy(np.array(array)).permute(2, 0, 1).contiguous()
    return pixels.to(torch.float32).div(255).sub_(0.5).div_(0.5)
