"""FID, KID and CLIP-T of many pictures: brushwork's one pass against torchmetrics' three, with the same network.

python benchmarks/set_metrics.py                        # 2,000 drawn pictures against 2,000 references
python benchmarks/set_metrics.py --pictures 200 --rounds 1

Both are given the same PNG files, four of each prompt, the same CLIP model (mini-clip), the same batches, one thread.
brushwork decodes and encodes each picture once, and each prompt, keeps the features in their store (as `brushwork
evaluate` does) and computes all three numbers from them. torchmetrics' metrics each have a network of their own and so
a pass of their own: ``FrechetInceptionDistance`` and ``KernelInceptionDistance`` with ``feature=`` an ``nn.Module``,
KID over all pictures at once; and since its ``CLIPScore`` does not work with transformers 5 (it takes the length of an
output object), a ``Metric`` of the same form: pictures and their texts in, the same sums kept. Its network prepares
pictures by two tensor operations, all that pictures of its own size need, and reads texts by brushwork's own function.
The values must agree to 1e-4; the time is the processor's, in rounds in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
import numpy as np
import torch
from PIL import Image
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

import brushwork
from brushwork.encoders import load_clip
from brushwork.features import FeatureStore
from brushwork.metrics import frechet_distance, kernel_distance
from brushwork.metrics.clip import prompt_similarity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from brushwork.encoders import Clip

DATASETS = Path(brushwork.__file__).parent / "assets" / "datasets"
BATCH, SEEDS = 64, 4
AGREE = 1e-4
WANTED = 2.0


def write_pictures(folder: Path, dataset: str, count: int) -> list[tuple[Path, str]]:
    """Write variations of a data set's pictures, shifted and with grain; return files and prompts."""
    rng, sources = np.random.default_rng(0), sorted((DATASETS / dataset).glob("*.png"))
    folder.mkdir()
    found = []
    for place in range(count):
        source = sources[place // SEEDS % len(sources)]
        pixels = np.asarray(Image.open(source).convert("RGB"), np.int16)
        moved = np.roll(pixels, rng.integers(-6, 7, 2), axis=(0, 1)) + rng.integers(-12, 13, pixels.shape)
        path = folder / f"{place:05}.png"
        Image.fromarray(moved.clip(0, 255).astype(np.uint8)).save(path)
        caption = source.with_suffix(".txt").read_text("utf-8").strip()
        found.append((path, f"{caption}, plate {place // SEEDS}"))
    return found


def opened(files: Sequence[tuple[Path, str]]) -> Iterator[Image.Image]:
    """Decode pictures one after the other."""
    for path, _ in files:
        with Image.open(path) as image:
            yield image.convert("RGB")


def one_pass(
    clip: Clip, real: Sequence[tuple[Path, str]], drawn: Sequence[tuple[Path, str]], folder: Path
) -> dict[str, float]:
    """Return the three numbers as brushwork computes them."""
    store = FeatureStore(folder, clip)
    references, _ = store.of(opened(real))
    features, _ = store.of(opened(drawn))
    prompts = list(dict.fromkeys(text for _, text in drawn))
    texts = dict(zip(prompts, clip.encode_texts(prompts)[0], strict=True))
    store.save()
    own = np.stack([texts[text] for _, text in drawn])
    return {
        "fid": frechet_distance(references, features),
        "kid": kernel_distance(references, features),
        "clip": float(prompt_similarity(features[:, None], own).mean()),
    }


class Eyes(torch.nn.Module):
    """The network as torchmetrics wants it: bytes (N, 3, H, W) in, unit vectors (N, D) out."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.model, self.num_features = clip.model, clip.model.config.projection_dim
        mean, std = (torch.tensor(getattr(clip.processor, f"image_{each}")).view(3, 1, 1) for each in ("mean", "std"))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features."""
        output: Any = self.model.get_image_features(pixel_values=(pixels / 255 - self.mean) / self.std)
        return torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)


class ClipScore(Metric):
    """torchmetrics' CLIPScore in the sums that it keeps, without what transformers 5 broke; the raw cosine."""

    score: torch.Tensor
    pictures: torch.Tensor

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.eyes, self.clip = Eyes(clip), clip
        self.add_state("score", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("pictures", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pixels: torch.Tensor, prompts: Sequence[str]) -> None:
        """Add a batch."""
        texts = torch.from_numpy(self.clip.encode_texts(prompts)[0])
        self.score += (self.eyes(pixels) * texts).sum()
        self.pictures += len(pixels)

    def compute(self) -> torch.Tensor:
        """Return the mean."""
        return self.score / self.pictures


def batches(files: Sequence[tuple[Path, str]]) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Decode pictures in batches of bytes (N, 3, H, W), with their prompts."""
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        pixels = np.stack([np.asarray(image) for image in opened(part)])
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2), [text for _, text in part]


def three_passes(clip: Clip, real: Sequence[tuple[Path, str]], drawn: Sequence[tuple[Path, str]]) -> dict[str, float]:
    """Return the three numbers as torchmetrics computes them."""
    values = {}
    with torch.inference_mode():
        fid = FrechetInceptionDistance(feature=Eyes(clip))
        kid = KernelInceptionDistance(feature=Eyes(clip), subsets=1, subset_size=min(len(real), len(drawn)))
        for name, metric in (("fid", fid), ("kid", kid)):
            for files, is_real in ((real, True), (drawn, False)):
                for pixels, _ in batches(files):
                    metric.update(pixels, real=is_real)
            value = metric.compute()
            values[name] = float(value[0] if name == "kid" else value)
        score = ClipScore(clip)
        for pixels, prompts in batches(drawn):
            score.update(pixels, prompts)
        values["clip"] = float(score.compute())
    return values


def timed(work: Callable[[], dict[str, float]]) -> tuple[dict[str, float], float, float]:
    """Return what some work gave, its seconds of processor and of the clock."""
    began, clock = time.process_time(), time.perf_counter()
    return work(), time.process_time() - began, time.perf_counter() - clock


def main() -> None:
    """Run both in turn and print the table."""
    warnings.filterwarnings("ignore", message=".*will save all extracted features in buffer")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clip = replace(load_clip("mini-clip"), batch_size=BATCH)
    seconds: dict[str, list[tuple[float, float]]] = {"brushwork": [], "torchmetrics": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        real, drawn = (write_pictures(folder / name, name, asked.pictures) for name in ("engravings", "sketches"))
        clip.encode_images(list(opened(real[:BATCH])))  # what is loaded at first use is nobody's time
        for number in range(asked.rounds):
            ours, *spent = timed(lambda number=number: one_pass(clip, real, drawn, folder / f"features-{number}"))
            seconds["brushwork"].append((spent[0], spent[1]))
            theirs, *spent = timed(lambda: three_passes(clip, real, drawn))
            seconds["torchmetrics"].append((spent[0], spent[1]))
            print(
                f"round {number + 1}: {seconds['brushwork'][-1][0]:.1f} s and {spent[0]:.1f} s of processor", flush=True
            )
    apart = {name: abs(ours[name] - theirs[name]) for name in ours}
    ratios = [theirs[0] / ours[0] for ours, theirs in zip(*seconds.values(), strict=True)]
    rows = [
        [name, *(f"{statistics.median(each[kind] for each in seconds[name]):.1f}" for kind in (0, 1)),
         *(f"{values[number]:.6f}" for number in ("fid", "kid", "clip"))]
        for name, values in (("brushwork", ours), ("torchmetrics", theirs))
    ]  # fmt: skip
    print(measure.table(["", "processor, s", "clock, s", "FD", "KID", "CLIP-T"], rows))
    ratio = statistics.median(ratios)
    print(
        f"{asked.pictures} pictures a side: {ratio:.2f} times as fast (rounds {min(ratios):.2f} to {max(ratios):.2f})"
    )
    if asked.out:
        told = {"machine": measure.machine(), "seconds": seconds, "ratio": ratio, "apart": apart, "values": ours}
        asked.out.write_text(json.dumps(told, indent=2), "utf-8")
    wrong = [name for name, difference in apart.items() if difference > AGREE]
    if wrong or ratio < WANTED:
        raise SystemExit(f"values that differ by more than {AGREE}: {wrong}; ratio {ratio:.2f}, wanted {WANTED}")  # noqa: EM102, TRY003


if __name__ == "__main__":
    main()
