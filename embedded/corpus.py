"""The data set of the diffusion stage: scenes as PNG files with several captions each, and the base to start from.

    python -m embedded.corpus --count 16640      # writes scratch/corpus/ and scratch/untrained/
    brushwork train embedded/base.yaml  # what is then done with them

A thing of scratch/favoured.json, one that is drawn badly yet, has its scenes twice: under other captions.
"""

import argparse
import json
import random
from multiprocessing import Pool
from pathlib import Path

from embedded.captions import caption
from embedded.classes import THINGS
from embedded.latents import corpus_scene
from embedded.nets import new_unet
from embedded.paths import ASSETS, WORK
from embedded.scenes import render

CAPTIONS = 24
EMPTY = 0.1


def file_name(number: int) -> str:
    """Return where scene ``number`` lies: a thousand in a folder."""
    return f"{number // 1000:02d}/{number:06d}.png"


def row(number: int, copy: int = 0) -> dict[str, object]:
    """Return the line of scene ``number`` in the table; a copy has other captions."""
    rng, scene = random.Random(f"captions-{number}-{copy}"), corpus_scene(number)
    return {"file_name": file_name(number), "text": [caption(scene, rng) for _ in range(CAPTIONS)]}


def _draw(number: int) -> None:
    path = WORK / "corpus" / file_name(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        render(corpus_scene(number)).save(path)


def make(count: int) -> None:
    """Write pictures 0 to count - 1 and the table of their captions."""
    with Pool(2) as pool:
        pool.map(_draw, range(count), chunksize=256)
    path = WORK / "favoured.json"
    favoured = set(json.loads(path.read_text())) if path.exists() else set()
    rows = []
    for number in range(count):
        twice = THINGS[corpus_scene(number).items[0].thing].noun in favoured
        rows += [row(number, copy) for copy in range(1 + twice)]
    (WORK / "corpus" / "metadata.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")


def untrained(folder: Path, start: Path | None = None) -> None:
    """Save the base of the diffusion stage: trained VAE and reader, and a new UNet, or that of ``start``."""
    import torch
    from diffusers import UNet2DConditionModel

    from embedded.export import save_pipeline, trained_text_encoder, trained_vae

    torch.manual_seed(0)
    unet = new_unet() if start is None else UNet2DConditionModel.from_pretrained(start)
    save_pipeline(folder, trained_vae(), trained_text_encoder(), unet)


def main() -> None:
    """Read the options and write both."""
    parser = argparse.ArgumentParser(description="Write the corpus and the base of the diffusion stage.")
    parser.add_argument("--count", type=int, default=16_640)
    parser.add_argument("--go-on", action="store_true", help="start from the UNet that ships instead of a random one")
    parser.add_argument("--start", type=Path, help="start from the UNet in this folder")
    options = parser.parse_args()
    make(options.count)
    untrained(WORK / "untrained", ASSETS / "mini" / "unet" if options.go_on else options.start)


if __name__ == "__main__":
    main()
