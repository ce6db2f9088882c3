"""Recompute the figures and pictures of README.md from what ships.

python -m embedded.card            # writes embedded/figures.json and embedded/pictures/*.png
python -m embedded.card --quick    # pictures only
"""

import argparse
import json
import random

import numpy as np
from PIL import Image

from embedded import grids, judge
from embedded.captions import caption
from embedded.paths import ASSETS, HERE, PICTURES, WORK
from embedded.scenes import random_scene, render


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


def figures() -> dict[str, object]:
    """Measure the VAE, the judge on renderings, the pipeline by the judge, and mini-clip."""
    from diffusers import AutoencoderKL
    from transformers import CLIPModel

    from embedded import clip, vae

    return {
        "vae dB": vae.psnr(AutoencoderKL.from_pretrained(ASSETS / "mini" / "vae"), WORK),
        "judge on renderings [top-1, top-5]": judge.on_renderings(judge.load_judge()),
        "mini by the judge [top-1, top-5]": judge.judge_pipeline(grids.load(ASSETS / "mini"), 2),
        "mini-clip [top-1, top-5]": clip.accuracy(CLIPModel.from_pretrained(ASSETS / "mini-clip")),
    }


def main() -> None:
    """Write pictures and figures."""
    parser = argparse.ArgumentParser(description="Recompute the model card's figures and pictures.")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    pipeline = grids.load(ASSETS / "mini")
    sheets = {"scenes": scenes_sheet(), "datasets": datasets_sheet(), "vae": vae_sheet()}
    for name, prompts, columns in (("base", grids.FIXED, 10), ("words", grids.WORDS, 6)):
        sheets[name] = grids.sheet(grids.draw(pipeline, prompts), prompts, columns)
    for name, page in sheets.items():
        page.quantize(256).save(PICTURES / f"{name}.png", optimize=True)
    if not options.quick:
        (HERE / "figures.json").write_text(json.dumps(figures(), indent=1) + "\n")


if __name__ == "__main__":
    main()
