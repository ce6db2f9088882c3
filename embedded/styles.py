"""Two manners of drawing a scene without colour: `engraving` (ink on old paper) and `pencil` (soft grey on white).

    engraving(scene).save("teapot.png")

Both draw at four times the size and reduce, so that lines are antialiased. The base never sees either: they are what
a fine-tune has to teach.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from embedded.scenes import Scene, draw_items

Floats = NDArray[np.float32]
SCALE = 4
HATCH_INK = 0.75
INK, PAPER = (44, 38, 34), (241, 234, 217)
HATCH_PERIOD = 8 / 2**0.5  # pixels; along both axes it repeats every two latents, so that a small UNet can learn it


def _drawn(scene: Scene, size: int) -> tuple[Floats, Floats, Floats]:
    """Return luma in [0, 1] on white, coverage and edge strength at the drawing size."""
    big = size * SCALE
    picture = np.asarray(draw_items(scene, big, Image.new("RGBA", (big, big)))).astype(np.float32) / 255
    cover = picture[..., 3]
    colours = picture[..., :3] * cover[..., None] + (1 - cover[..., None])
    colours = ndimage.gaussian_filter(colours, (SCALE / 2, SCALE / 2, 0))
    luma = (colours @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    channels = [*np.moveaxis(colours, -1, 0), ndimage.gaussian_filter(cover, SCALE / 2)]
    edges = np.max([np.hypot(ndimage.sobel(c, 0), ndimage.sobel(c, 1)) for c in channels], axis=0)
    return luma, cover, edges.astype(np.float32)


def _reduced(tone: Floats, dark: tuple[int, int, int], light: tuple[int, int, int]) -> Image.Image:
    """Box-reduce a tone map (1 is light) and colour it."""
    size = tone.shape[0] // SCALE
    tone = tone.reshape(size, SCALE, size, SCALE).mean((1, 3)).clip(0, 1)[..., None]
    pixels = tone * np.array(light, np.float32) + (1 - tone) * np.array(dark, np.float32)
    return Image.fromarray(pixels.round().astype(np.uint8), "RGB")


def _hatch(big: int, direction: int, width: Floats) -> NDArray[np.bool_]:
    """Return where diagonal lines run whose width, a share of the period, follows the tone."""
    rows, columns = np.mgrid[0:big, 0:big]
    phase = ((rows + direction * columns) / (HATCH_PERIOD * SCALE * np.sqrt(2))) % 1.0
    return np.asarray(np.abs(phase - 0.5) * 2 < width)


def engraving(scene: Scene, size: int = 64) -> Image.Image:
    """Draw the scene as an old book illustration: outline, hatching by tone, cross-hatching where it is dark."""
    luma, cover, edges = _drawn(scene, size)
    big = luma.shape[0]
    inside = cover > 0.5
    shade = (1 - ndimage.gaussian_filter(luma, SCALE)).clip(0, 1)
    outline = edges > 0.38
    first = _hatch(big, 1, np.interp(shade, (0.12, 0.20, 0.80), (0.0, 0.16, 0.36)).astype(np.float32))
    second = _hatch(big, -1, np.interp(shade, (0.55, 0.60, 0.95), (0.0, 0.16, 0.40)).astype(np.float32))
    lines = HATCH_INK * (inside & (first | second))  # finer and paler than the outline, which must carry the shape
    ink = np.maximum(outline, lines)
    return _reduced((1 - ink).astype(np.float32), INK, PAPER)


def pencil(scene: Scene, size: int = 64) -> Image.Image:
    """Draw the scene in soft pencil: grey contours that fade, smooth grain-like shading, white paper."""
    luma, cover, edges = _drawn(scene, size)
    big = luma.shape[0]
    rows, columns = np.mgrid[0:big, 0:big]
    strokes = 0.5 + 0.5 * np.sin((rows * 0.35 + columns) / (1.1 * SCALE))
    shade = ndimage.gaussian_filter((1 - luma) * (cover > 0.5), 1.5 * SCALE)
    contour = ndimage.gaussian_filter(edges.clip(0, 1.2), 0.6 * SCALE)
    tone = 1 - 0.55 * shade * (0.7 + 0.3 * strokes) - 0.62 * contour
    return _reduced(tone.astype(np.float32), (70, 70, 74), (252, 252, 252))
