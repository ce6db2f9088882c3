"""The pictures the VAE learns from: scenes, both manners, textures, line drawings and scikit-image's photographs.

python -m embedded.pictures_for_vae          # writes scratch/vae.npy (uint8, N x 64 x 64 x 3) and scratch/vae-kinds.npy
"""

import random
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedded.paths import WORK
from embedded.scenes import random_scene, render
from embedded.styles import engraving, pencil

COUNTS = {"scene": 8000, "engraving": 3000, "pencil": 1500, "texture": 1200, "photo": 1300}
KINDS = tuple(COUNTS)
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "brick", "grass", "gravel")


def texture(rng: random.Random, size: int = 64) -> Image.Image:
    """Return a gradient, stripes, noise or a scribble of lines and shapes in random colours."""
    np_rng = np.random.default_rng(rng.getrandbits(32))
    colours = np_rng.uniform(0, 255, (2, 3))
    kind = rng.choice(("gradient", "stripes", "noise", "scribble", "scribble"))
    if kind == "scribble":
        return _scribble(rng, colours, size)
    rows, columns = np.mgrid[0:size, 0:size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = rows * np.sin(angle) + columns * np.cos(angle)
    if kind == "gradient":
        tone = (ramp - ramp.min()) / np.ptp(ramp)
    elif kind == "stripes":
        tone = 0.5 + 0.5 * np.sin(ramp * rng.uniform(20, 110))
    else:
        cells = int(rng.choice((4, 8, 16, 32)))
        small = Image.fromarray(np_rng.uniform(0, 255, (cells, cells)).astype(np.uint8))
        tone = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)) / 255
    pixels = tone[..., None] * colours[0] + (1 - tone[..., None]) * colours[1]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


def _scribble(rng: random.Random, colours: NDArray[np.float64], size: int) -> Image.Image:
    big = size * 4
    paper, ink = (tuple(int(c) for c in colour) for colour in colours)
    picture = Image.new("RGB", (big, big), paper)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(3, 14)):
        points = [(rng.uniform(0, big), rng.uniform(0, big)) for _ in range(rng.randint(2, 5))]
        if rng.random() < 0.75:
            draw.line(points, fill=ink, width=rng.randint(3, 14))
        else:
            (x0, y0), (x1, y1) = points[:2]
            fill = tuple(rng.randint(0, 255) for _ in range(3))
            draw.ellipse((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=fill, outline=ink, width=6)
    return picture.resize((size, size), Image.Resampling.BOX)


def photo(rng: random.Random, size: int = 64) -> Image.Image:
    """Return a random crop of one of the photographs that ship inside scikit-image."""
    from skimage import data

    picture = Image.fromarray(getattr(data, rng.choice(PHOTOGRAPHS))()).convert("RGB")
    side = int(min(picture.size) * rng.uniform(0.25, 1.0))
    left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def picture_of(kind: str, rng: random.Random) -> Image.Image:
    """Return one random picture of the kind."""
    if kind == "texture":
        return texture(rng)
    if kind == "photo":
        return photo(rng)
    draw = {"scene": render, "engraving": engraving, "pencil": pencil}[kind]
    return draw(random_scene(rng))


def _job(job: tuple[str, int]) -> NDArray[np.uint8]:
    kind, seed = job
    return np.asarray(picture_of(kind, random.Random(f"{kind}-{seed}")), dtype=np.uint8)


def make(counts: dict[str, int] | None = None, name: str = "vae", first_seed: int = 0) -> None:
    """Render and store the pictures and the number of each one's kind."""
    counts = counts or COUNTS
    jobs = [(kind, first_seed + i) for kind, count in counts.items() for i in range(count)]
    with Pool(2) as pool:
        pictures = np.stack(pool.map(_job, jobs, chunksize=64))
    WORK.mkdir(exist_ok=True)
    np.save(WORK / f"{name}.npy", pictures)
    np.save(WORK / f"{name}-kinds.npy", np.array([KINDS.index(kind) for kind, _ in jobs], np.uint8))


if __name__ == "__main__":
    make()
    make({"scene": 200, "engraving": 100, "pencil": 50, "texture": 30, "photo": 30}, "vae-test", first_seed=1_000_000)
