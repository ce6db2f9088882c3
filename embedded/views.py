"""Renderings with shape-preserving disguises, for the two judges: odd colours, greyscale, line drawings, both manners.

pixels, labels, manners = load("train")     # uint8 N x 64 x 64 x 3 (renderings), scene numbers, manner numbers
"""

import random
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray

from embedded.latents import scene_number
from embedded.paths import WORK
from embedded.scenes import Scene, render
from embedded.styles import engraving, pencil

MANNERS = ("colour", "engraving", "pencil")
SHARES = {"colour": 0.6, "engraving": 0.25, "pencil": 0.15}
FIRST = {"train": 2_000_000, "test": 3_000_000}


def _manner(number: int) -> str:
    return random.Random(f"manner-{number}").choices(MANNERS, list(SHARES.values()))[0]


def view(number: int, manner: str) -> NDArray[np.uint8]:
    """Return the scene with this number drawn in the manner."""
    draw = {"colour": render, "engraving": engraving, "pencil": pencil}[manner]
    return np.asarray(draw(scene_number(number)), dtype=np.uint8)


def _view(number: int) -> NDArray[np.uint8]:
    return view(number, _manner(number))


def make(split: str, count: int) -> None:
    """Render and store `count` views."""
    numbers = range(FIRST[split], FIRST[split] + count)
    with Pool(2) as pool:
        pixels = np.stack(pool.map(_view, numbers, chunksize=64))
    np.save(WORK / f"views-{split}.npy", pixels)


def load(split: str) -> tuple[NDArray[np.uint8], list[Scene], list[str]]:
    """Return pictures, their scenes and manners."""
    pixels = np.load(WORK / f"views-{split}.npy", mmap_mode="r")
    numbers = range(FIRST[split], FIRST[split] + len(pixels))
    return pixels, [scene_number(n) for n in numbers], [_manner(n) for n in numbers]


def disguise(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change the colours of one picture in [0, 1] strongly, its shapes not at all; a third stay as they are."""
    draw = rng.random()
    if draw < 0.33:
        return pixels
    if draw < 0.6:
        grey = pixels @ rng.dirichlet((3, 4, 2)).astype(np.float32)
        pixels = np.repeat(grey[..., None], 3, -1)
    else:
        pixels = pixels[..., rng.permutation(3)]
        mix = np.eye(3, dtype=np.float32) + rng.normal(0, 0.25, (3, 3)).astype(np.float32)
        pixels = pixels @ mix
    gain, shift, power = rng.uniform(0.6, 1.3), rng.uniform(-0.15, 0.15), rng.uniform(0.6, 1.6)
    pixels = (pixels * gain + shift).clip(0, 1) ** power
    if rng.random() < 0.1:
        pixels = 1 - pixels
    return pixels.astype(np.float32)


def moved(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift by up to four pixels and sometimes blur a little, as a decoder does."""
    dy, dx = rng.integers(-4, 5, 2)
    pixels = np.roll(np.pad(pixels, ((4, 4), (4, 4), (0, 0)), mode="edge"), (dy, dx), (0, 1))[4:-4, 4:-4]
    if rng.random() < 0.4:
        from scipy import ndimage

        pixels = ndimage.gaussian_filter(pixels, (s := rng.uniform(0.3, 1.1), s, 0))
    return pixels


if __name__ == "__main__":
    make("train", 16_000)
    make("test", 2500)
