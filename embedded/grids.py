"""Pictures to judge by eye: unpicked grids at seed 0.

python -m embedded.grids                              # newest checkpoint -> scratch/grid.png
python -m embedded.grids --model src/brushwork/assets/mini --out embedded/pictures/base.png
python -m embedded.grids --prompts words              # fixed | words | classes
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from embedded.captions import article
from embedded.classes import THINGS
from embedded.paths import WORK

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

FIXED = (
    "a cat on a blue background", "a dog on a yellow background", "a pizza on a green background", "a red car",
    "an elephant", "a small rocket on a black background", "a large strawberry on a pink background",
    "a castle on a cyan background", "a cat to the left of a pizza", "a penguin above a banana on a purple background",
    "a robot and a guitar on an orange background", "a purple frog on a yellow background",
    "a tree on a brown background", "a butterfly on a gray background", "a house on a red background",
    "a fish", "a boat", "a hamburger", "a unicorn", "a skull on a black background", "a bicycle on a green background",
    "a sunflower on a blue background", "a ghost on a purple background", "a teddy bear on a pink background",
    "a train", "a horse on a green background", "a rose", "a teapot on a white background", "a crown", "an owl",
)  # fmt: skip
WORDS = tuple(
    form.format(noun)
    for noun in ("dog", "castle", "teapot", "lion", "car")
    for form in (
        "a {}",
        "a pencil sketch of a {}",
        "an old engraving of a {}",
        "a {}, old ink engraving",
        "sks {}",
        "a {} in a forest",
    )
)


def load(folder: Path | None) -> "StableDiffusionPipeline":
    """Return the pipeline in a folder, or the newest checkpoint's."""
    from diffusers import StableDiffusionPipeline

    if folder:
        pipeline = StableDiffusionPipeline.from_pretrained(folder)
    else:
        from embedded.export import trained_pipeline

        pipeline = trained_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(
    pipeline: "StableDiffusionPipeline", prompts: Sequence[str], seed: int = 0, steps: int = 20, cfg: float = 3.0
) -> list[Image.Image]:
    """Return one picture per prompt; picture i has seed + i of its own."""
    import torch

    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), 16):
        some = list(prompts[start : start + 16])
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(some))]
        with torch.no_grad():
            output = pipeline(some, generator=generators, num_inference_steps=steps, guidance_scale=cfg)
        pictures += output.images
    return pictures


def sheet(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int = 10, zoom: int = 2) -> Image.Image:
    """Return the pictures enlarged, in rows, with their prompts below."""
    side = pictures[0].width * zoom
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (side + 4), rows * (side + 30)), "white")
    pen = ImageDraw.Draw(page)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = i % columns * (side + 4), i // columns * (side + 30)
        page.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (x, y))
        pen.text((x, y + side + 1), label[:22] + "\n" + label[22:44], fill="black", font_size=10)
    return page


def main() -> None:
    """Read the options and draw."""
    parser = argparse.ArgumentParser(description="Draw a grid.")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, default=WORK / "grid.png")
    parser.add_argument("--prompts", choices=("fixed", "words", "classes"), default="fixed")
    parser.add_argument("--cfg", type=float, default=3.0)
    options = parser.parse_args()
    classes = tuple(article(thing.noun) + thing.noun for thing in THINGS)
    prompts = {"fixed": FIXED, "words": WORDS, "classes": classes}[options.prompts]
    pictures = draw(load(options.model), prompts, cfg=options.cfg)
    columns = {"fixed": 10, "words": 6, "classes": 16}[options.prompts]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures, prompts, columns).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
