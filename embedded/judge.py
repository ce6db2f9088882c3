"""A small network that names the thing in a picture: the judge of `mini`, kept out of the package.

    python -m embedded.judge --minutes 5         # trains scratch/judge.pt on disguised renderings
    python -m embedded.judge --model src/brushwork/assets/mini     # judges a pipeline, prints JSON

It is not `mini-clip`: other architecture, other loss, other random views.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from embedded.captions import article
from embedded.classes import BACKGROUNDS, THINGS
from embedded.paths import WORK
from embedded.speed import device, restart_with_malloc
from embedded.views import disguise, load, moved

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from torch import nn

COLOURS = [name for name in BACKGROUNDS if name != "gray"]


def new_judge() -> "nn.Module":
    """Return an untrained convolutional classifier."""
    from torch import nn

    def block(inside: int, outside: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.GELU())

    widths, layers, inside = (32, 64, 128, 192), [], 3
    for width in widths:
        layers += [block(inside, width, 2), block(width, width, 1)]
        inside = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * inside, len(THINGS))
    )


def train(minutes: float, threads: int, batch: int = 128) -> None:
    """Train on disguised one-thing views."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    judge = new_judge().to(device(), memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    pixels, scenes, _ = load("train")
    rows = np.array([n for n, scene in enumerate(scenes) if len(scene.items) == 1])
    labels = {n: scenes[n].items[0].thing for n in rows.tolist()}
    rng, start, step = np.random.default_rng(7), time.time(), 0
    while (share := (time.time() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * share))
        chosen = rng.choice(rows, batch).tolist()
        views = [moved(disguise(pixels[n].astype(np.float32) / 255, rng), rng) for n in chosen]
        inputs = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).to(device(), memory_format=torch.channels_last)
        loss = functional.cross_entropy(
            judge(inputs * 4 - 2), torch.tensor([labels[n] for n in chosen]).to(device()), label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"{time.time() - start:5.0f}s step {step} loss {loss.item():.3f}", flush=True)
    torch.save(judge.state_dict(), WORK / "judge.pt")
    print(json.dumps(on_renderings(judge)))


def load_judge() -> "nn.Module":
    """Return the trained judge."""
    import torch

    judge = new_judge()
    judge.load_state_dict(torch.load(WORK / "judge.pt", weights_only=True, map_location="cpu"))
    return judge.eval()


def ranks(judge: "nn.Module", pictures: np.ndarray, answers: list[int]) -> np.ndarray:
    """Return for each uint8 picture the rank of the right class, 0 is best."""
    import torch

    judge = judge.eval().to("cpu")
    inputs = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255 * 4 - 2
    with torch.no_grad():
        scores = torch.cat([judge(part) for part in inputs.split(100)])
    truth = torch.tensor(answers)
    return np.asarray((scores > scores.gather(1, truth[:, None])).sum(1))


def top(values: np.ndarray) -> list[float]:
    """Return [top-1, top-5] of ranks."""
    return [round(float((values < k).mean()), 3) for k in (1, 5)]


def on_renderings(judge: "nn.Module", count: int = 2000) -> dict[str, list[float]]:
    """Return top-1 and top-5 on unseen renderings, per manner and in greyscale."""
    pixels, scenes, manners = load("test")
    rows = [n for n, scene in enumerate(scenes[:count]) if len(scene.items) == 1]
    pictures, answers = pixels[rows], [scenes[n].items[0].thing for n in rows]
    found, kinds = ranks(judge, pictures, answers), np.array([manners[n] for n in rows])
    grey = np.repeat(pictures.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    result = {kind: top(found[kinds == kind]) for kind in ("colour", "engraving", "pencil")}
    return result | {"greyscale": top(ranks(judge, grey, answers)[kinds == "colour"])}


def background_of(picture: Image.Image) -> str:
    """Return the name of the background colour nearest to the border's median."""
    pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    border = np.concatenate([pixels[:3].reshape(-1, 3), pixels[:, :3].reshape(-1, 3), pixels[:, -3:].reshape(-1, 3)])
    middle = np.median(border, axis=0)
    return min(BACKGROUNDS, key=lambda name: float(np.linalg.norm(middle - BACKGROUNDS[name])))


def judge_pipeline(pipeline: "StableDiffusionPipeline", seeds: int) -> dict[str, object]:
    """Return top-k accuracies of drawn pictures for several wordings, background accuracy and relations."""
    from embedded.grids import draw

    judge, result = load_judge(), dict[str, object]()
    nouns = [thing.noun for thing in THINGS]
    wordings = {
        "a {} on a {colour} background": seeds,
        "a {}": 1,
        "a pencil sketch of a {}": 1,
        "sks {}": 1,
        "a {}, old ink engraving": 1,
    }
    for wording, times in wordings.items():
        prompts = [
            wording.format(noun, colour=COLOURS[(i + k) % len(COLOURS)])
            for k in range(times)
            for i, noun in enumerate(nouns)
        ]
        pictures = draw(pipeline, prompts, seed=1000)
        found = ranks(judge, np.stack([np.asarray(p) for p in pictures]), list(range(len(nouns))) * times)
        result[wording] = top(found)
        if "colour" in wording:
            right = [f"{background_of(p)} background" in t for p, t in zip(pictures, prompts, strict=True)]
            result["background right"] = round(float(np.mean(right)), 3)
            missed = sorted({nouns[i % len(nouns)] for i in np.flatnonzero(found > 0)})
            result["ever missed"] = ", ".join(missed)
    return result | {"pairs": judge_pairs(pipeline, judge)}


def judge_pairs(pipeline: "StableDiffusionPipeline", judge: "nn.Module", count: int = 48) -> dict[str, float]:
    """Return how often both things of a pair stand, by the judge's top five, where the prompt asks for them."""
    from embedded.grids import draw

    rng = np.random.default_rng(5)
    pairs = [rng.choice(len(THINGS), 2, replace=False).tolist() for _ in range(count)]
    words = ("to the left of", "to the right of", "above", "below")
    boxes = {
        "to the left of": ((0, 16, 32, 48), (32, 16, 64, 48)),
        "above": ((16, 0, 48, 32), (16, 32, 48, 64)),
    }
    boxes |= {"to the right of": boxes["to the left of"][::-1], "below": boxes["above"][::-1]}
    names = [[article(THINGS[n].noun) + THINGS[n].noun for n in pair] for pair in pairs]
    prompts = [f"{a} {words[i % 4]} {b} on a {COLOURS[i % len(COLOURS)]} background" for i, (a, b) in enumerate(names)]
    crops = [
        np.asarray(picture.crop(box).resize((64, 64), Image.Resampling.BICUBIC))
        for i, picture in enumerate(draw(pipeline, prompts, seed=2000))
        for box in boxes[words[i % 4]]
    ]
    found = ranks(judge, np.stack(crops), [n for pair in pairs for n in pair]).reshape(-1, 2)
    return {
        "one right": round(float((found < 5).any(1).mean()), 3),
        "both right": round(float((found < 5).all(1).mean()), 3),
    }


def main() -> None:
    """Train the judge, or judge a model."""
    parser = argparse.ArgumentParser(description="Train the judge or judge a model.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--newest", action="store_true", help="judge the newest checkpoint")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    if options.model or options.newest:
        from embedded.grids import load as load_pipeline

        print(json.dumps(judge_pipeline(load_pipeline(options.model), options.seeds), indent=1))
    else:
        train(options.minutes, options.threads)


if __name__ == "__main__":
    restart_with_malloc()
    main()
