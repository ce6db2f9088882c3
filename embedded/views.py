"""Renderings with shape-preserving disguises, for judge, mini-clip and captioner: odd colours, greyscale, both manners.

    python -m embedded.views --processes 2      # scratch/views-{train,test}.npy, about four minutes of CPU time
    pixels, scenes, manners = load("train")     # uint8 N x 64 x 64 x 3, what they show, how they are drawn

The things go through the classes in turn, so no class is rare.
"""

import argparse
import random
from multiprocessing import Pool
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedded.latents import scene_number
from embedded.paths import WORK
from embedded.scenes import Scene, render
from embedded.styles import engraving, pencil

if TYPE_CHECKING:
    import torch

Window = tuple[float, float, float]  # centre x, centre y and side, as fractions of the picture
WHOLE: Window = (0.5, 0.5, 1.0)
MANNERS = ("colour", "engraving", "pencil")
SHARES = {"colour": 0.6, "engraving": 0.25, "pencil": 0.15}
FIRST = {"train": 2_000_000, "test": 3_000_000}
COUNTS = {"train": 24_000, "test": 3000}


def _manner(number: int) -> str:
    return random.Random(f"manner-{number}").choices(MANNERS, list(SHARES.values()))[0]


def view(number: int, manner: str) -> NDArray[np.uint8]:
    """Return the scene with this number drawn in the manner."""
    draw = {"colour": render, "engraving": engraving, "pencil": pencil}[manner]
    return np.asarray(draw(scene_number(number)), dtype=np.uint8)


def _view(number: int) -> NDArray[np.uint8]:
    return view(number, _manner(number))


def make(split: str, processes: int) -> None:
    """Render and store a split's views."""
    numbers = range(FIRST[split], FIRST[split] + COUNTS[split])
    with Pool(processes) as pool:
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


def looked_at(pictures: NDArray[np.uint8], windows: list[Window], bend: float = 0.0) -> "torch.Tensor":
    """Cut a window out of each picture (N x 64 x 64 x 3) and return it as N x 3 x 64 x 64 in [0, 1].

    `bend` moves points by about that share of the window, as an imperfect drawing does. Outside, the border goes on.
    """
    import torch
    from torch.nn import functional

    x, y, side = torch.tensor(windows).float().view(-1, 3, 1, 1).unbind(1)
    across = (torch.arange(64) + 0.5) / 32 - 1
    grid = torch.stack(
        [(across.view(1, 1, 64) * side + 2 * x - 1).expand(-1, 64, 64),
         (across.view(1, 64, 1) * side + 2 * y - 1).expand(-1, 64, 64)], -1
    )  # fmt: skip
    if bend:
        coarse = torch.randn(len(grid), 2, 5, 5) * bend * side.view(-1, 1, 1, 1) * torch.rand(len(grid), 1, 1, 1)
        grid = grid + functional.interpolate(coarse, (64, 64), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def roughened(pixels: "torch.Tensor") -> "torch.Tensor":
    """Blur two fifths of the pictures (N x 3 x 64 x 64) a little and add a little noise, as a decoder does."""
    import torch
    from torch.nn import functional

    count = len(pixels)
    near = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    spread = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    return pixels + spread * (near - pixels) + 0.03 * torch.rand(count, 1, 1, 1) * torch.randn_like(pixels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render what the judges learn from.")
    parser.add_argument("--processes", type=int, default=2)
    for name in COUNTS:
        make(name, parser.parse_args().processes)
