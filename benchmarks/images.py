"""The fast image path beside Pillow's: decode, resize the shorter side to 512, hash (SHA-256 and perceptual), encode.

    python benchmarks/images.py                  # speed, interleaved picture by picture, quality, and several processes
    python benchmarks/images.py --only processes --pictures 2000           # on a machine that does nothing else

The pictures are scikit-image's photographs: for quality as they are, for speed mirrored over the edges to the size
wanted, so that they keep the detail that photographs of that size have. Pillow's chain is convert, resize with Lanczos,
the same two hashes, and JPEG at the same quality. What is lost is the difference from Pillow's Lanczos before encoding.
Over processes CPU seconds say what each picture costs more, whatever else the machine does; wall seconds say what is
gained, if it does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import measure
import numpy as np
from PIL import Image

from brushwork.curate import hashing
from brushwork.curate.build.parts import prepare
from brushwork.curate.pixels import PictureConfig, standardise
from brushwork.curate.resizing import opencv

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field")
SIZE, QUALITY = 512, 95
SHORTER = (640, 768, 896, 1024, 1536)
RATIOS = (1.25, 1.5, 1.75, 2, 3, 4)


def photographs() -> dict[str, Image.Image]:
    """Return scikit-image's colour photographs that come with it."""
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()) for name in NAMES}


def enlarged(image: Image.Image, shorter: int) -> bytes:
    """Return a JPEG with that shorter side, four by three, mirrored over the edges where the photograph ends."""
    width, height = shorter * 4 // 3, shorter
    pixels = np.asarray(image.convert("RGB"))
    missing = ((0, max(0, height - pixels.shape[0])), (0, max(0, width - pixels.shape[1])), (0, 0))
    return jpeg(Image.fromarray(np.pad(pixels, missing, mode="symmetric")[:height, :width]), 90)


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def lanczos(data: bytes, size: int) -> Image.Image:
    """Decode and resize as diffusers' scripts do."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = size / min(image.size)
    target = (size, int(image.height * scale)) if image.width <= image.height else (int(image.width * scale), size)
    return image.resize(target, Image.Resampling.LANCZOS)


def pillows(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    """Do with Pillow what :func:`ours` does."""
    image = lanczos(data, SIZE)
    return hashlib.sha256(data).hexdigest(), hashing.perceptual_hash(hashing.luminance(image)), jpeg(image, QUALITY)


def ours(data: bytes) -> object:
    """Standardise as a build does."""
    return prepare(data, PictureConfig(size=SIZE, quality=QUALITY))


def speed(rounds: int) -> dict[str, Any]:
    """Return CPU milliseconds of both chains for each size, taken in turn, picture by picture."""
    figures = {}
    for shorter in SHORTER:
        pictures = [enlarged(image, shorter) for image in photographs().values()]
        costs: dict[str, list[float]] = {"pillow": [], "ours": []}
        for number in range(rounds + 1):
            for data in pictures:
                for name, chain in (("pillow", pillows), ("ours", ours)):
                    began = time.process_time()
                    chain(data)
                    if number:  # the first round warms up
                        costs[name].append(1000 * (time.process_time() - began))
        ratios = [slow / fast for slow, fast in zip(costs["pillow"], costs["ours"], strict=True)]
        kilobytes = statistics.mean(len(each) for each in pictures) / 1000
        medians = {name: statistics.median(each) for name, each in costs.items()}
        figures[f"{shorter * 4 // 3} x {shorter}"] = medians | {"kB": kilobytes, "ratio": measure.summary(ratios)}
    return figures


def quality() -> dict[str, Any]:
    """Return PSNR and SSIM against Pillow's Lanczos, for each photograph and ratio."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    figures: dict[str, Any] = {}
    for name, image in photographs().items():
        data = jpeg(image.convert("RGB"), 95)
        for ratio in RATIOS:
            size = int(min(image.size) / ratio)
            made = standardise(data, PictureConfig(size=size, format="png"))
            fast = np.asarray(Image.open(io.BytesIO(made.data)))
            slow = np.asarray(lanczos(data, size).resize((made.width, made.height)))
            figures.setdefault(name, {})[str(ratio)] = (
                float(peak_signal_noise_ratio(slow, fast)),
                float(structural_similarity(slow, fast, channel_axis=2)),
            )
    return figures


def work(count: int) -> float:
    """Standardise so many pictures in this process; return its CPU seconds."""
    opencv().setNumThreads(1)
    pictures = [enlarged(image, 1024) for image in list(photographs().values())[:4]]
    ours(pictures[0])
    began = time.process_time()
    for number in range(count):
        ours(pictures[number % len(pictures)])
    return time.process_time() - began


def processes(count: int, most: int) -> list[dict[str, float]]:
    """Return what the same pictures cost in one process and in several, in turn, the better of two rounds."""
    figures = []
    for number in sorted({1, most}) * 2:
        with ProcessPoolExecutor(number, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(work, [1] * number))  # imports
            began = time.perf_counter()
            spent = list(pool.map(work, [count // number] * number))
            wall = time.perf_counter() - began
            figures.append({"processes": number, "wall": wall, "cpu": sum(spent), "cpu_ms": 1000 * sum(spent) / count})
    return [min(each, key=lambda figure: figure["wall"]) for each in (figures[::2], figures[1::2])]


def print_speed(figures: dict[str, Any]) -> None:
    """Print what :func:`speed` measured."""
    rows = [
        [
            name,
            f"{each['kB']:.0f}",
            f"{each['pillow']:.1f}",
            f"{each['ours']:.1f}",
            f"{1000 / each['ours']:.0f}",
            "x{median:.2f} ({min:.2f} to {max:.2f})".format(**each["ratio"]),
        ]
        for name, each in figures.items()
    ]
    header = [
        "picture",
        "kB",
        "Pillow, CPU ms",
        "brushwork, CPU ms",
        "pictures/s/core",
        "speed-up: median (least to greatest)",
    ]
    print(measure.table(header, rows) + "\n")


def print_quality(figures: dict[str, Any]) -> None:
    """Print what :func:`quality` measured."""
    cells = [[name, *(f"{psnr:.1f} / {ssim:.3f}" for psnr, ssim in each.values())] for name, each in figures.items()]
    print(measure.table(["PSNR dB / SSIM", *(f"1 to {ratio}" for ratio in RATIOS)], cells) + "\n")


def print_processes(figures: list[dict[str, float]]) -> None:
    """Print what :func:`processes` measured."""
    rows = [[f"{each['processes']}", f"{each['wall']:.2f}", f"{each['cpu_ms']:.2f}"] for each in figures]
    print(measure.table(["processes", "wall s", "CPU ms a picture"], rows))
    one, several = figures[0], figures[-1]
    linear, cost = one["wall"] / several["wall"] / several["processes"], one["cpu_ms"] / several["cpu_ms"]
    print(f"of linear: {100 * linear:.0f} % by the wall clock, {100 * cost:.0f} % by what a picture costs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=400, help="for the processes")
    parser.add_argument("--only", choices=("speed", "quality", "processes"), help="leave out the others")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    asked = parser.parse_args()
    opencv().setNumThreads(1)
    figures: dict[str, Any] = {}
    if asked.only in (None, "speed"):
        figures["speed"] = speed(asked.rounds)
        print_speed(figures["speed"])
    if asked.only in (None, "quality"):
        figures["quality"] = quality()
        print_quality(figures["quality"])
    if asked.only in (None, "processes"):
        figures["processes"] = processes(asked.pictures, asked.processes)
        print_processes(figures["processes"])
    if asked.json:
        asked.json.write_text(json.dumps({"machine": measure.machine(), **figures}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
