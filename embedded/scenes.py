"""Captioned 64x64 scenes: one or two emoji on a coloured background.

scene = random_scene(random.Random(0))
picture, caption = render(scene, 64), caption(scene, random.Random(1))     # caption: embedded.captions
"""

import random
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from embedded.classes import BACKGROUNDS, THINGS, TINTS
from embedded.paths import FONT

GLYPH_SIZE = 109  # the one size of the font's bitmaps
RELATIONS = ("left", "right", "above", "below", "and")
PLACES = ("top left", "top right", "bottom left", "bottom right")


class Item(NamedTuple):
    """One thing in a scene: class number, box centre and side as fractions of the picture, tint, mirrored."""

    thing: int
    x: float
    y: float
    side: float
    tint: str | None
    flipped: bool


class Scene(NamedTuple):
    """What is drawn, and what a caption may say about it."""

    items: tuple[Item, ...]
    background: str
    shade: tuple[int, int, int]
    size: str | None = None
    place: str | None = None
    relation: str | None = None


@cache
def glyph(thing: int) -> Image.Image:
    """Return the thing as an RGBA picture cropped to a centred square."""
    font = ImageFont.truetype(str(FONT), GLYPH_SIZE)
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), THINGS[thing].glyph, font=font, embedded_color=True)
    box = canvas.getbbox()
    assert box is not None, THINGS[thing].noun
    side = max(box[2] - box[0], box[3] - box[1])
    middle_x, middle_y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    left, top = middle_x - side // 2, middle_y - side // 2
    return canvas.crop((left, top, left + side, top + side))


@cache
def tinted(thing: int, tint: str | None) -> Image.Image:
    """Return the glyph with its hues replaced by one tint; light and dark stay."""
    picture = glyph(thing)
    if tint is None:
        return picture
    pixels = np.asarray(picture).astype(np.float32)
    luma = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    colour = np.array(TINTS[tint], np.float32)
    dark = colour * (luma / 0.6)[..., None]
    light = colour + (255 - colour) * ((luma - 0.6) / 0.4)[..., None]
    pixels[..., :3] = np.where((luma < 0.6)[..., None], dark, light).clip(0, 255)
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")


def draw_items(scene: Scene, size: int, canvas: Image.Image) -> Image.Image:
    """Paste the scene's things on a canvas, antialiased."""
    for item in scene.items:
        side = max(2, round(item.side * size))
        picture = tinted(item.thing, item.tint).resize((side, side), Image.Resampling.LANCZOS)
        if item.flipped:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        corner = (round(item.x * size - side / 2), round(item.y * size - side / 2))
        layer = Image.new("RGBA", canvas.size)
        layer.paste(picture, corner)
        canvas = Image.alpha_composite(canvas, layer)
    return canvas


def render(scene: Scene, size: int = 64) -> Image.Image:
    """Draw the scene in colour."""
    canvas = Image.new("RGBA", (size, size), (*scene.shade, 255))
    return draw_items(scene, size, canvas).convert("RGB")


def random_shade(background: str, rng: random.Random) -> tuple[int, int, int]:
    """Return the named colour, varied a little."""
    red, green, blue = (min(255, max(0, c + rng.randint(-6, 6))) for c in BACKGROUNDS[background])
    return red, green, blue


def _item(thing: int, x: float, y: float, side: float, tint: str | None, rng: random.Random) -> Item:
    return Item(thing, x, y, side, tint, THINGS[thing].flips and rng.random() < 0.25)


def _pair(rng: random.Random, things: range | list[int]) -> Scene:
    first, second = rng.sample(list(things), 2)
    relation = rng.choice(RELATIONS)
    axis = relation if relation != "and" else rng.choice(("left", "right"))
    near, far = rng.uniform(0.25, 0.28), rng.uniform(0.72, 0.75)
    start, end = (near, far) if axis in {"left", "above"} else (far, near)
    side, cross = rng.uniform(0.42, 0.48), rng.uniform(0.46, 0.54)
    places = ((start, cross), (end, cross)) if axis in {"left", "right"} else ((cross, start), (cross, end))
    items = tuple(_item(thing, x, y, side, None, rng) for thing, (x, y) in zip((first, second), places, strict=True))
    background = rng.choice(list(BACKGROUNDS))
    return Scene(items, background, random_shade(background, rng), relation=relation)


def random_scene(rng: random.Random, things: range | list[int] | None = None) -> Scene:
    """Choose a scene: 15 % pairs, 10 % small, 8 % large, 7 % tinted, the rest one plain thing near the middle."""
    things = range(len(THINGS)) if things is None else things
    if rng.random() < 0.15 and len(things) > 1:
        return _pair(rng, things)
    background = rng.choice(list(BACKGROUNDS))
    tint = None
    if rng.random() < 0.08:
        tint = rng.choice([t for t in TINTS if t != background])
    size = place = None
    x, y, side = 0.5 + rng.uniform(-0.04, 0.04), 0.5 + rng.uniform(-0.04, 0.04), rng.uniform(0.70, 0.80)
    draw = rng.random()
    if draw < 0.10:
        size, side = "small", rng.uniform(0.36, 0.42)
        if rng.random() < 0.5:
            place = rng.choice(PLACES)
            x, y = 0.27 if "left" in place else 0.73, 0.27 if "top" in place else 0.73
    elif draw < 0.18:
        size, side = "large", rng.uniform(0.92, 1.0)
        x = y = 0.5
    item = _item(rng.choice(list(things)), x, y, side, tint, rng)
    return Scene((item,), background, random_shade(background, rng), size, place)


def settled(scene: Scene) -> Scene:
    """Return the scene with its things on the latents' grid of four pixels, in four sizes, none mirrored.

    A shift by a whole latent is free for a convolution, a shift by a fraction is a new pattern to learn: with few
    samples this makes the difference between shards and shapes.
    """
    pair = len(scene.items) > 1
    side = 0.4375 if pair else {None: 0.75, "small": 0.375, "large": 0.9375}[scene.size]

    def snap(place: float) -> float:
        if pair or scene.place:
            return 0.25 if place < 0.4 else 0.75 if place > 0.6 else 0.5
        return 0.5 if scene.size or abs(place - 0.5) < 0.028 else 0.5 + (0.0625 if place > 0.5 else -0.0625)

    items = tuple(item._replace(x=snap(item.x), y=snap(item.y), side=side, flipped=False) for item in scene.items)
    return scene._replace(items=items)
