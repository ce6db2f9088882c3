"""Masks: where to draw, what lies there at first, and how the drawn part gets back into the picture.

    view = look(request)                            # the part of the picture that is drawn, at the asked size
    view.paste(drawn)                               # the whole picture again

White is drawn anew. The softened mask (``mask_blur``) mixes the drawn pixels with the original's; latents are drawn
where the mask is white, softened or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from brushwork.generate import Request

Content = Literal["original", "fill", "latent noise", "latent nothing"]
CONTENTS: tuple[Content, ...] = ("fill", "original", "latent noise", "latent nothing")
"""What lies under a mask before it is drawn, in the order of A1111's numbers."""
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class View:
    """What is drawn of a picture.

    Args:
        picture: In RGB, of the size that is drawn; what the latents are made of.
        mask: Black and white, of the same size; None: all of it is drawn.
        original: What is pasted into: of the size that is drawn, or with a box the whole picture.
        soft: The softened mask of ``original``.
        box: Left, top, right, bottom of what is drawn of ``original``; None: all.
    """

    picture: PIL.Image.Image
    mask: PIL.Image.Image | None = None
    original: PIL.Image.Image | None = None
    soft: PIL.Image.Image | None = None
    box: Box | None = None

    def paste(self, drawn: PIL.Image.Image) -> PIL.Image.Image:
        """Put the original pixels back outside of the mask; the decoder changes all of them a little."""
        from PIL import Image

        if self.original is None or self.soft is None:
            return drawn
        if self.box is None:
            return Image.composite(drawn, self.original, self.soft)
        left, top, right, bottom = self.box
        layer = self.original.copy()
        layer.paste(drawn.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        return Image.composite(layer, self.original, self.soft)


def look(request: Request) -> View:
    """Return what is drawn of the picture to start from.

    Raises:
        ConfigError: Only the masked part shall be drawn, and the mask is black.
    """
    assert request.init is not None, "the caller asks"
    size = _size(request)
    init = request.init.convert("RGB")
    if request.mask is None:
        return View(_fit(init, size))
    mask = request.mask.convert("L")
    if request.only_masked_padding is None:
        original, soft, box = _fit(init, size), _soft(_fit(mask, size), request.mask_blur), None
        picture, binary = original, _drawn(_fit(mask, size), soft)
    else:
        original, soft = init, _soft(mask, request.mask_blur)
        box = region(soft, request.only_masked_padding, size)
        picture, binary = _part(init, box, size), _binary(_part(_drawn(mask, soft), box, size))
    if request.masked_content == "fill":
        picture = fill(picture, binary)
    return View(picture, binary, original, soft, box)


def region(mask: PIL.Image.Image, padding: int, size: tuple[int, int]) -> Box:
    """Return the box about the white of a mask, padded, in the proportions of a width and height, inside the picture.

    Where the picture has not so much room, the box is what there is and the proportions are not kept.

    Raises:
        ConfigError: Nothing is white.
    """
    found = mask.getbbox()
    if found is None:
        message = "mask: all of it is black, so there is nothing to draw; paint white what shall be drawn anew"
        raise ConfigError(message)
    left, right = _padded(found[0], found[2], padding, mask.width)
    top, bottom = _padded(found[1], found[3], padding, mask.height)
    wide = max(right - left, round((bottom - top) * size[0] / size[1]))
    high = max(bottom - top, round((right - left) * size[1] / size[0]))
    left, right = _grown(left, right, wide, mask.width)
    top, bottom = _grown(top, bottom, high, mask.height)
    return left, top, right, bottom


def _padded(start: int, end: int, padding: int, limit: int) -> tuple[int, int]:
    return max(0, start - padding), min(limit, end + padding)


def _grown(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """Make a stretch longer evenly at both ends, moved to lie inside of 0 to ``limit``."""
    length = min(length, limit)
    begin = start - (length - (end - start)) // 2
    begin = min(max(0, begin), limit - length)
    return begin, begin + length


def fill(picture: PIL.Image.Image, mask: PIL.Image.Image) -> PIL.Image.Image:
    """Spread the colours about a mask over what is under it, the near ones counting most.

    Push and pull (Gortler et al. 1996, "The lumigraph", section 3.4): what is unknown is taken from the picture at half
    the size, which is made of the known pixels only, and so on.
    """
    import numpy as np
    import torch
    from PIL import Image

    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), np.float32)).permute(2, 0, 1)[None]
    known = torch.from_numpy((np.asarray(mask.convert("L")) < 128).astype(np.float32))[None, None]  # noqa: PLR2004  (half)
    if not bool(known.any()):
        return picture
    filled = _spread(pixels * known, known)[0].permute(1, 2, 0)
    return Image.fromarray(filled.round().clamp(0, 255).byte().numpy())


def _spread(colours: Tensor, weight: Tensor) -> Tensor:
    """Return colours (1, 3, H, W), given times their weights (1, 1, H, W) of 0 to 1, with what has none filled in."""
    from torch.nn.functional import avg_pool2d, interpolate

    if bool((weight == 1).all()) or max(weight.shape[2:]) == 1:
        return colours / weight
    size = (weight.shape[2], weight.shape[3])
    summed = 4 * avg_pool2d(weight, 2, ceil_mode=True, divisor_override=4)
    half = summed.clamp(max=1)
    tinted = 4 * avg_pool2d(colours, 2, ceil_mode=True, divisor_override=4) * half / summed.clamp(min=1e-12)
    coarse = interpolate(_spread(tinted, half), size, mode="bilinear", align_corners=False)
    return colours + (1 - weight) * coarse


def _size(request: Request) -> tuple[int, int]:
    return cast("int", request.width), cast("int", request.height)


def _fit(picture: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    """Fill the size with a picture, cut evenly at its longer side."""
    from PIL import Image, ImageOps

    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def _part(picture: PIL.Image.Image, box: Box, size: tuple[int, int]) -> PIL.Image.Image:
    from PIL import Image

    return picture.crop(box).resize(size, Image.Resampling.LANCZOS)


def _soft(mask: PIL.Image.Image, blur: float) -> PIL.Image.Image:
    """Return a mask with soft edges, or without blur black and white."""
    from PIL import ImageFilter

    return _binary(mask).filter(ImageFilter.GaussianBlur(blur)) if blur else _binary(mask)


def _drawn(mask: PIL.Image.Image, soft: PIL.Image.Image) -> PIL.Image.Image:
    """Return where latents are drawn: a thin line that blur makes grey is still one."""
    from PIL import ImageChops

    return ImageChops.lighter(_binary(mask), _binary(soft))


def _binary(mask: PIL.Image.Image) -> PIL.Image.Image:
    """Return black and white."""
    return mask.point([0] * 128 + [255] * 128)
