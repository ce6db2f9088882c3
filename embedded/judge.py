"""A small network that names the thing in a picture: the judge of `mini`, kept out of the package.

    python -m embedded.judge --minutes 8         # trains scratch/judge.pt on disguised renderings; again: goes on

It is not `mini-clip`: other architecture, other loss, other random views. It learns from whole pictures and from
windows around one of two things, so that it can also say what stands in one half of a picture. Scores: embedded.scores.
"""

import argparse
import json
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedded.classes import BACKGROUNDS, THINGS
from embedded.paths import WORK
from embedded.scenes import Scene
from embedded.speed import device, restart_with_malloc
from embedded.views import WHOLE, Window, load, looked_at, roughened

if TYPE_CHECKING:
    import torch
    from torch import nn

RATE, ADAM_RATE = 0.02, 2e-3


def new_judge() -> "nn.Module":
    """Return an untrained residual classifier of 1.4 M parameters."""
    import torch
    from torch import nn

    def convolution(inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)]

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*convolution(width, width), nn.GELU(), *convolution(width, width))
            nn.init.zeros_(self.body[-1].weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.gelu(x + self.body(x))

    layers, inside = [*convolution(3, 32, 2), nn.GELU(), *convolution(32, 32), nn.GELU()], 32
    for width in (64, 128, 224):
        layers += [*convolution(inside, width, 2), nn.GELU(), Residual(width)]
        inside = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * inside, len(THINGS))
    )


def disguised(pixels: "torch.Tensor") -> "torch.Tensor":
    """Change colours strongly in half of the pictures, mirror a quarter, blur some, add noise: shapes stay."""
    import torch

    pixels = pixels.clone()
    count = len(pixels) // 2  # rows come in random order
    mix = torch.eye(3) + 0.2 * torch.randn(count, 3, 3)
    odd = torch.rand(count) < 0.3
    mix[odd] = mix[odd][:, torch.randperm(3)]
    grey = torch.rand(count) < 0.45
    weights = torch.distributions.Dirichlet(torch.tensor([3.0, 4.0, 2.0])).sample((count,))
    mix[grey] = weights[grey][:, None].expand(-1, 3, -1)
    gain, shift = torch.empty(2, count, 1, 1, 1).uniform_(-1, 1).unbind(0)
    changed = torch.einsum("nij,njhw->nihw", mix, pixels[:count]) * (0.95 + 0.35 * gain) + 0.15 * shift
    changed = changed.clamp_(0, 1).pow_(torch.empty(count, 1, 1, 1).uniform_(0.6, 1.6))
    pixels[:count] = torch.where(torch.rand(count, 1, 1, 1) < 0.1, 1 - changed, changed)
    mirrored = torch.rand(len(pixels)) < 0.25
    pixels[mirrored] = pixels[mirrored].flip(-1)
    return roughened(pixels)


def chosen_window(scene: Scene, item: int, rng: np.random.Generator) -> Window:
    """Choose the whole picture, a little moved and zoomed, or (always for one of two things) its surroundings."""
    thing = scene.items[item]
    if len(scene.items) == 1 and rng.random() < 0.8:
        x, y = 0.5 + rng.uniform(-0.07, 0.07, 2)
        return x, y, rng.uniform(0.85, 1.2)
    x, y = np.array([thing.x, thing.y]) + rng.uniform(-0.04, 0.04, 2)
    return x, y, max(0.4, thing.side * rng.uniform(1.05, 1.45))


def train(minutes: float, threads: int, batch: int = 64) -> None:
    """Train on disguised views; the rate falls to zero over the second half."""
    import torch
    from torch.nn import functional

    from embedded.muon import Muon

    torch.set_num_threads(threads)
    torch.manual_seed(time.time_ns() % 2**31)
    judge = new_judge()
    if (WORK / "judge.pt").exists():
        judge = load_judge()
    judge.to(device(), memory_format=torch.channels_last).train()
    optimizer = Muon(judge.named_parameters(), lr=RATE, adam_lr=ADAM_RATE, weight_decay=0.05)
    pixels, scenes, _ = load("train")
    rng, start, step, mean = np.random.default_rng(), time.process_time(), 0, 0.0
    while (share := (time.process_time() - start) / (60 * minutes * threads)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / 30, 2 - 2 * share)
        rows = rng.choice(len(scenes), batch, replace=False).tolist()
        items = [int(rng.integers(len(scenes[n].items))) for n in rows]
        windows = [chosen_window(scenes[n], item, rng) for n, item in zip(rows, items, strict=True)]
        answers = torch.tensor([scenes[n].items[item].thing for n, item in zip(rows, items, strict=True)])
        inputs = disguised(looked_at(pixels[rows], windows, bend=0.03)).to(device(), memory_format=torch.channels_last)
        with torch.autocast(device(), torch.bfloat16):
            scores = judge(inputs * 4 - 2).float()
        loss = functional.cross_entropy(scores, answers.to(device()), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        mean = loss.item() if step == 1 else 0.95 * mean + 0.05 * loss.item()
        if step % 50 == 0:
            print(f"{time.process_time() - start:5.0f}s step {step} loss {mean:.3f}", flush=True)
    torch.save(judge.to("cpu", memory_format=torch.contiguous_format).state_dict(), WORK / "judge.pt")
    print(json.dumps(on_renderings(judge.eval())))


def load_judge() -> "nn.Module":
    """Return the trained judge."""
    import torch

    judge = new_judge()
    judge.load_state_dict(torch.load(WORK / "judge.pt", weights_only=True, map_location="cpu"))
    return judge.eval()


def log_shares(judge: "nn.Module", pictures: NDArray[np.uint8], windows: list[Window] | None = None) -> "torch.Tensor":
    """Return the log probabilities, N x classes, averaged over six looks at each window: 3 zooms, also mirrored."""
    import torch

    windows = windows or [WHOLE] * len(pictures)
    parts = []
    for start in range(0, len(pictures), 100):
        some, places = pictures[start : start + 100], windows[start : start + 100]
        looks = []
        for zoom in (0.94, 1.0, 1.08):
            inputs = looked_at(some, [(x, y, side * zoom) for x, y, side in places]) * 4 - 2
            with torch.no_grad():
                looks += [judge(inputs).softmax(-1), judge(inputs.flip(-1)).softmax(-1)]
        parts.append(torch.stack(looks).mean(0).log())
    return torch.cat(parts)


def ranks(shares: "torch.Tensor", answers: list[int]) -> NDArray[np.int64]:
    """Return the rank of each right class, 0 is best."""
    import torch

    truth = torch.tensor(answers)[:, None]
    return np.asarray((shares > shares.gather(1, truth)).sum(1))


def top(values: NDArray[np.int64]) -> list[float]:
    """Return [top-1, top-5] of ranks."""
    return [round(float((values < k).mean()), 3) for k in (1, 5)]


def on_renderings(judge: "nn.Module") -> dict[str, list[float]]:
    """Return top-1 and top-5 on unseen one-thing renderings, per manner and in greyscale."""
    pixels, scenes, manners = load("test")
    rows = [n for n, scene in enumerate(scenes) if len(scene.items) == 1]
    pictures, answers = pixels[rows], [scenes[n].items[0].thing for n in rows]
    found, kinds = ranks(log_shares(judge, pictures), answers), np.array([manners[n] for n in rows])
    result = {kind: top(found[kinds == kind]) for kind in ("colour", "engraving", "pencil")}
    colour = np.flatnonzero(kinds == "colour")
    grey = np.repeat(pictures[colour].mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    return result | {"greyscale": top(ranks(log_shares(judge, grey), [answers[n] for n in colour]))}


def background_of(picture: NDArray[np.uint8]) -> str:
    """Return the name of the background colour nearest to the border's median."""
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[:3].reshape(-1, 3), pixels[:, :3].reshape(-1, 3), pixels[:, -3:].reshape(-1, 3)])
    middle = np.median(border, axis=0)
    return min(BACKGROUNDS, key=lambda name: float(np.linalg.norm(middle - BACKGROUNDS[name])))


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description="Train the judge.")
    parser.add_argument("--minutes", type=float, default=8, help="of CPU time for each thread")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    train(options.minutes, options.threads)


if __name__ == "__main__":
    restart_with_malloc()
    main()
