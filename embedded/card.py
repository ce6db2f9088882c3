"""Recompute the figures and pictures of README.md from what ships.

    python -m embedded.card            # writes embedded/figures.json and embedded/pictures/*.png, prints the table
    python -m embedded.card --quick    # one seed instead of four, no fine-tune, no pictures; figures.json stays

It needs the judge (`python -m embedded.judge`) and the test views (`python -m embedded.views`) in scratch/. About ten
minutes on one idle thread; what scratch/figures.json already holds for the same weights is not drawn again.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from embedded import grids, scores
from embedded.captions import caption
from embedded.paths import ASSETS, HERE, PICTURES, WORK
from embedded.scenes import random_scene, render
from embedded.speed import restart_with_malloc


def scenes_sheet() -> Image.Image:
    """Return thirty captioned training scenes."""
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(30)]
    return grids.sheet([render(s) for s in scenes], [caption(s, rng) for s in scenes])


def datasets_sheet() -> Image.Image:
    """Return the first ten pictures of each data set."""
    pictures, labels = [], []
    for name in ("engravings", "sketches", "mascot"):
        paths = sorted((ASSETS / "datasets" / name).glob("*.png"))
        for path in paths[:10]:
            pictures.append(Image.open(path))
            labels.append(path.with_suffix(".txt").read_text().strip())
        while len(pictures) % 10:
            pictures.append(Image.new("RGB", (64, 64), "white"))
            labels.append("")
    return grids.sheet(pictures, labels)


def vae_sheet() -> Image.Image:
    """Return unseen pictures (odd rows) above their reconstructions (even rows)."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(ASSETS / "mini" / "vae")
    pixels, kinds = np.load(WORK / "vae-test.npy"), np.load(WORK / "vae-test-kinds.npy")
    rows = [n for kind, count in enumerate((8, 6, 2, 2, 2)) for n in np.flatnonzero(kinds == kind)[:count]]
    batch = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        output = vae.decode(vae.encode(batch).latent_dist.mode()).sample.clamp(-1, 1)
    again = ((output + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    pictures = [
        Image.fromarray(a) for k in (0, 10) for a in (*(pixels[n] for n in rows[k : k + 10]), *again[k : k + 10])
    ]
    return grids.sheet(pictures, [""] * len(pictures))


def figures(*, quick: bool) -> dict[str, Any]:
    """Measure the VAE, mini-clip, mini-captioner and, by the judge, the pipeline; the shorter ones come first."""
    from diffusers import AutoencoderKL
    from transformers import AutoModelForImageTextToText, CLIPModel

    from embedded import captioner, clip, vae

    judge = CLIPModel.from_pretrained(ASSETS / "mini-clip").eval()
    pipeline = grids.load(ASSETS / "mini")
    for _ in range(2):  # the first one warms up
        began = time.process_time()
        grids.draw(pipeline, ["a dog"])
    result: dict[str, Any] = {
        "one picture, 20 steps": f"{time.process_time() - began:.1f} s of CPU time",
        "VAE dB": vae.psnr(AutoencoderKL.from_pretrained(ASSETS / "mini" / "vae"), WORK),
        "mini-clip [top-1, top-5]": clip.accuracy(judge),
        "mini-clip finds the right one of three manners": clip.manners(judge),
        "mini-captioner": captioner.accuracy(
            AutoModelForImageTextToText.from_pretrained(ASSETS / "mini-captioner").eval()
        ),
        "weights, MB": {
            folder.name: round(sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6, 1)
            for folder in sorted(ASSETS.glob("mini*"))
        },
    }
    for name, part in scores.measured(ASSETS / "mini", quick=quick):
        print(json.dumps({name: part}), file=sys.stderr, flush=True)
        result[name] = part
    return result


def table(measured: dict[str, Any]) -> str:
    """Return the figures as a markdown table, one row for each group of them."""
    rows = [f"| {name} | {value} |" for name, value in _rows(measured)]
    return "\n".join(["| measure | value |", "|---|---|", *rows])


def _rows(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of each innermost group with its figures in one line."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    if above and plain:
        yield above, ", ".join(f"{name} {_value(value)}" for name, value in plain.items())
    elif plain:
        yield from ((name, _value(value)) for name, value in plain.items())
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{above}: {name}" if above else name)


def _value(value: Any) -> str:
    """Return shares as percentages, everything else as it is."""
    if isinstance(value, list):
        return " / ".join(_value(each) for each in value)
    return f"{100 * value:.1f} %" if isinstance(value, float) and 0 <= value <= 1 else str(value)


def pictures() -> None:
    """Draw and write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    pipeline = grids.load(ASSETS / "mini")
    sheets = {"scenes": scenes_sheet(), "datasets": datasets_sheet(), "vae": vae_sheet()}
    for name, prompts, columns in (("base", grids.FIXED, 10), ("words", grids.WORDS, 6)):
        sheets[name] = grids.sheet(grids.draw(pipeline, prompts), prompts, columns)
    for name, page in sheets.items():
        page.quantize(256).save(PICTURES / f"{name}.png", optimize=True)


def main() -> None:
    """Write pictures and figures."""
    import torch

    parser = argparse.ArgumentParser(description="Recompute the model card's figures and pictures.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="more than the idle cores makes it many times slower")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = figures(quick=options.quick)
    print(table(measured))
    if not options.quick:
        (HERE / "figures.json").write_text(json.dumps(measured, indent=1) + "\n")
        pictures()


if __name__ == "__main__":
    restart_with_malloc()
    main()
