"""The fast way from a downloaded picture to one of the data set: decode, resize, crop, hash and encode.

    made = standardise(data, PictureConfig(size=512))
    made.data, made.width, made.hashes

OpenCV decodes, :mod:`brushwork.curate.resizing` makes smaller; a JPEG at least twice as large as wanted is decoded at a
half, a quarter or an eighth of its size, which its blocks allow (each is a small cosine transform).
What OpenCV would read differently or too leniently (transparency, palettes, inks, animations, cut files) goes through
:mod:`brushwork.images` instead, so every picture ends as upright sRGB without transparency. ``benchmarks/images.py``
measures speed and what it costs in quality.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageCms, ImageColor, UnidentifiedImageError
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from brushwork import images
from brushwork.curate import hashing, resizing
from brushwork.errors import DataError
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from brushwork.curate.resizing import Pixels

ON_THEIR_SIDES = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)
SALIENCY_SIDE = 64
"""The shorter side at which a smart crop looks for detail."""
ENOUGH_DETAIL = 0.9
"""A square with this share of the most detail is as good as the one with the most."""


class PictureConfig(Settings):
    """What becomes of each picture."""

    size: PositiveInt = Field(512, description="The shorter side in pixels.")
    mode: Literal["shorter", "centre", "smart"] = Field(
        "shorter",
        description="shorter: keep the aspect. centre: a square from the middle. smart: the one with the most detail.",
    )
    upscale: bool = Field(default=False, description="Enlarge pictures that are smaller; otherwise they are left out.")
    background: str = Field("white", description="Behind transparency.")
    format: Literal["jpeg", "png", "webp"] = Field("jpeg", description="How pictures are written.")
    quality: int = Field(95, ge=1, le=100, description="Of JPEG and WebP.")
    max_pixels: PositiveInt = Field(100_000_000, description="Larger pictures are refused by their header.")
    near_duplicates: NonNegativeInt | None = Field(
        hashing.THRESHOLD,
        le=hashing.MOST,
        description="Of pictures whose perceptual hashes (mirrored too) differ in at most so many of 64 bits, the "
        "first is kept. null: all are.",
    )

    @field_validator("background")
    @classmethod
    def _is_a_colour(cls, value: str) -> str:
        ImageColor.getrgb(value)  # raises a ValueError that names it
        return value

    @property
    def suffix(self) -> str:
        """The suffix of files."""
        return {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}[self.format]


class UnfitError(Exception):
    """A picture is not taken; the message is the reason in a word or two, the same for all pictures like it."""


@dataclass(frozen=True)
class Standardised:
    """A picture of the data set."""

    data: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    hashes: tuple[int, int]
    """Perceptual hashes, of the picture and of its mirror image (:mod:`brushwork.curate.hashing`)."""


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded; sizes are as stored, before it is turned upright."""

    format: str
    mode: str
    width: int
    height: int
    turn: Image.Transpose | None
    profile: bytes | None
    plain: bool
    """Whether OpenCV reads it as Pillow does."""


def standardise(data: bytes, settings: PictureConfig) -> Standardised:
    """Bring an encoded picture into the form of the data set.

    Raises:
        UnfitError: It is no picture, damaged, too large or too small; the message is a reason for the manifest.
    """
    header = read_header(data, settings.max_pixels)
    shorter = min(header.width, header.height)
    if shorter < settings.size and not settings.upscale:
        reason = "too-small"
        raise UnfitError(reason)
    decoded = _decode(data, header, settings)
    pixels = _upright(_resized(decoded, settings.size), decoded.turn)
    pixels = _to_srgb(_cropped(pixels, settings), header)
    lying = decoded.turn in ON_THEIR_SIDES
    height, width = pixels.shape[:2]
    return Standardised(
        _encode(pixels, settings),
        width,
        height,
        original_width=decoded.height if lying else decoded.width,
        original_height=decoded.width if lying else decoded.height,
        hashes=hashing.perceptual_hash(resizing.means(pixels, hashing.SIDE)),
    )


def read_header(data: bytes, max_pixels: int) -> Header:
    """Read what a picture says of itself; nothing is decoded.

    Raises:
        UnfitError: It is no picture, or has more than ``max_pixels``.
    """
    try:
        image = images.inspect(io.BytesIO(data), "picture")
    except DataError as error:
        raise UnfitError(_reason(error)) from error
    with image:
        if image.width * image.height > max_pixels:
            reason = "too-many-pixels"
            raise UnfitError(reason)
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        plain = image.mode in ("RGB", "L") and "transparency" not in image.info and _ends_well(kind, data)
        plain = plain and (kind != "WEBP" or not getattr(image, "is_animated", False))
        # Pillow reads a PNG's EXIF data only by decoding it all: such a rare picture takes the careful way.
        turn = images.TURNS.get(_orientation(image)) if plain and kind != "PNG" else None
        return Header(kind, image.mode, image.width, image.height, turn, image.info.get("icc_profile"), plain)


def _reason(error: DataError) -> str:
    cause = error.__cause__
    if isinstance(cause, Image.DecompressionBombError):
        return "too-many-pixels"
    if isinstance(cause, UnidentifiedImageError):
        return "not-an-image"
    return "too-long" if cause is None else "damaged"


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(images.ORIENTATION, 1)
    except images.BROKEN:
        return 1
    return value if isinstance(value, int) else 1


def _ends_well(kind: str, data: bytes) -> bool:
    """Return whether a file is whole and of a kind that OpenCV reads as Pillow does; it paints what is cut off grey."""
    if kind == "JPEG":
        return data.endswith(b"\xff\xd9")
    if kind == "PNG":
        return data[-8:-4] == b"IEND" and b"eXIf" not in data and b"Raw profile type exif" not in data
    return kind == "WEBP"


@dataclass(frozen=True)
class _Decoded:
    """Pixels, perhaps at a fraction of the size; what turns them upright; the full size, as the pixels lie."""

    pixels: Pixels
    turn: Image.Transpose | None
    width: int
    height: int


def _decode(data: bytes, header: Header, settings: PictureConfig) -> _Decoded:
    pixels = _quick(data, header, settings.size) if header.plain else None
    if pixels is not None:
        return _Decoded(pixels, header.turn, header.width, header.height)
    try:
        image = images.decode(data, settings.background)
    except DataError as error:
        reason = "damaged"
        raise UnfitError(reason) from error
    return _Decoded(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]), None, image.width, image.height)


def _quick(data: bytes, header: Header, size: int) -> Pixels | None:
    """Decode with OpenCV; None where it cannot."""
    cv2 = resizing.opencv()
    flags = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }[resizing.reduction(min(header.width, header.height), size) if header.format == "JPEG" else 1]
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)  # type: ignore[no-any-return]
    except cv2.error:
        return None


def _resized(decoded: _Decoded, size: int) -> Pixels:
    """Bring the shorter side to ``size``."""
    pixels, width, height = decoded.pixels, decoded.width, decoded.height
    width, height = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    return resizing.resize(pixels, width, height)


def _upright(pixels: Pixels, turn: Image.Transpose | None) -> Pixels:
    if turn is None:
        return pixels
    turns: dict[Image.Transpose, Callable[[], Pixels]] = {
        Image.Transpose.FLIP_LEFT_RIGHT: lambda: pixels[:, ::-1],
        Image.Transpose.FLIP_TOP_BOTTOM: lambda: pixels[::-1],
        Image.Transpose.ROTATE_180: lambda: pixels[::-1, ::-1],
        Image.Transpose.ROTATE_90: lambda: np.rot90(pixels),
        Image.Transpose.ROTATE_270: lambda: np.rot90(pixels, 3),
        Image.Transpose.TRANSPOSE: lambda: pixels.transpose(1, 0, 2),
        Image.Transpose.TRANSVERSE: lambda: np.rot90(pixels, 2).transpose(1, 0, 2),
    }
    upright: Pixels = np.ascontiguousarray(turns[turn]())
    return upright


def _cropped(pixels: Pixels, settings: PictureConfig) -> Pixels:
    if settings.mode == "shorter":
        return pixels
    height, width = pixels.shape[:2]
    along = 1 if width >= height else 0
    space = max(height, width) - settings.size
    start = round(space / 2) if settings.mode == "centre" else most_detail(pixels, settings.size, along)
    cropped = pixels[:, start : start + settings.size] if along else pixels[start : start + settings.size]
    whole: Pixels = np.ascontiguousarray(cropped)
    return whole


def most_detail(pixels: Pixels, size: int, along: int) -> int:
    """Return where the square of ``size`` with the most detail begins along an axis (0: down, 1: to the right).

    Detail is the mean absolute Laplacian at a small size, as smart croppers take it (libvips' and smartcrop.js's
    attention begin with edges). Of the squares with nearly the most, the one nearest to the middle is taken: texture
    at the border is no reason to cut a subject.
    """
    cv2 = resizing.opencv()
    space = int(pixels.shape[along]) - size
    scale = min(1.0, SALIENCY_SIDE / size)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    edges = np.abs(cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), cv2.CV_32F))
    profile = edges.sum(axis=1 - along, dtype=np.float64)
    window = min(len(profile), max(1, round(size * scale)))
    sums = np.convolve(profile, np.ones(window), mode="valid")
    nearly = np.flatnonzero(sums >= sums.max() * ENOUGH_DETAIL)
    best = int(nearly[np.abs(nearly - (len(sums) - 1) / 2).argmin()])
    return round(space * best / max(1, len(sums) - 1))


def _to_srgb(pixels: Pixels, header: Header) -> Pixels:
    """Convert from the picture's colour profile; after resizing, where there are fewer pixels."""
    # Inks were converted when the picture was decoded.
    transform = _transform(header.profile) if header.profile and header.mode != "CMYK" else None
    if transform is None:
        return pixels
    grey = transform.input_mode == "L"
    picture = Image.fromarray(pixels[:, :, 0] if grey else np.ascontiguousarray(pixels[:, :, ::-1]))
    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None
    return np.ascontiguousarray(np.asarray(converted)[:, :, ::-1])


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return what converts from a profile to sRGB; None where it is sRGB, or unusable."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        mode = {"RGB ": "RGB", "GRAY": "L"}.get(source.profile.xcolor_space)
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB") if mode else None
    except (ImageCms.PyCMSError, OSError):
        return None


def _encode(pixels: Pixels, settings: PictureConfig) -> bytes:
    cv2 = resizing.opencv()
    options = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, settings.quality],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, settings.quality],
        "png": [],
    }[settings.format]
    done, data = cv2.imencode(settings.suffix, pixels, options)
    assert done, "OpenCV cannot encode 8-bit colours"
    return data.tobytes()  # type: ignore[no-any-return]
