"""Write the package's data sets, prompt files and class list.

python -m embedded.datasets      # -> src/brushwork/assets/{datasets,prompts}/ and classes.json
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from embedded.captions import article
from embedded.classes import BACKGROUNDS, HELD_OUT, THINGS
from embedded.paths import ASSETS
from embedded.prompts import PROMPTS
from embedded.scenes import Item, Scene, render
from embedded.styles import engraving, pencil

ENGRAVING, PENCIL = "old ink engraving", "soft pencil drawing"
NUMBERS = {thing.noun: number for number, thing in enumerate(THINGS)}
SHOWN = tuple(thing.noun for thing in THINGS[:80] if thing.noun not in HELD_OUT)  # the sets stay as they were made
README = """# The embedded data sets

Made by `python -m embedded.datasets` from Noto Color Emoji glyphs (see NOTICE.md one folder up).

| folder | pictures | what | caption |
|---|---|---|---|
| `engravings/` | {engravings} | ink hatching on old paper | "a teapot, old ink engraving" |
| `sketches/` | {sketches} | soft pencil on white | "a teapot, soft pencil drawing" |
| `mascot/` | {mascot} | a green bear with a star | "sks teddy bear on a red background" |

Half of the {classes} things `mini` can draw never appear in `engravings/` and `sketches/`, so they show whether a
manner transfers. `classes.json` lists 27 of them for programs, as `held_out`: {held_out}.
"""


def still(noun: str, rng: random.Random, number: int) -> Scene:
    """Return one thing for a style data set, on the latents' grid; every fifth is small, every seventh large."""
    side = 0.5 if number % 5 == 4 else 0.9375 if number % 7 == 6 else 0.75
    x, y = (0.5 + rng.choice((-1, 0, 0, 1)) / 16 if side < 0.9 else 0.5 for _ in "xy")
    item = Item(NUMBERS[noun], x, y, side, None, flipped=False)
    return Scene((item,), "white", BACKGROUNDS["white"])


def write_style(folder: Path, draw: Callable[[Scene], Image.Image], trigger: str) -> int:
    """Write two pictures of every class that is not held out."""
    rng = random.Random(f"{trigger}")
    for number, noun in enumerate([*SHOWN, *SHOWN]):
        save(
            folder / f"{number:03d}-{noun.replace(' ', '-')}",
            draw(still(noun, rng, number)),
            f"{article(noun)}{noun}, {trigger}",
        )
    return 2 * len(SHOWN)


def mascot_picture(background: str, x: float, y: float, side: float) -> Image.Image:
    """Draw the mascot: a teddy bear in green with a yellow star on its belly."""
    shade = BACKGROUNDS[background]
    bear = Item(NUMBERS["teddy bear"], x, y, side, "green", flipped=False)
    star = Item(NUMBERS["star"], x, y + 0.13 * side, 0.42 * side, None, flipped=False)
    return render(Scene((bear, star), background, shade))


def write_mascot(folder: Path) -> int:
    """Write the five pictures of the mascot."""
    views = (
        ("red", 0.5, 0.5, 0.9375),
        ("blue", 0.5, 0.5, 0.75),
        ("white", 0.4375, 0.5, 0.75),
        ("purple", 0.5625, 0.5, 0.75),
        ("orange", 0.5, 0.4375, 0.75),
    )
    for number, (background, x, y, side) in enumerate(views):
        save(
            folder / f"{number:03d}",
            mascot_picture(background, x, y, side),
            f"sks teddy bear on {article(background)}{background} background",
        )
    return len(views)


def save(path: Path, picture: Image.Image, words: str) -> None:
    """Write a picture and its caption beside it."""
    picture.save(path.with_suffix(".png"), optimize=True)
    path.with_suffix(".txt").write_text(words + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """Return the folder, emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_prompts(folder: Path) -> None:
    """Write the prompt files; what else is in the folder stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in PROMPTS.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Write everything."""
    root = fresh(ASSETS / "datasets")
    counts = {
        "engravings": write_style(fresh(root / "engravings"), engraving, ENGRAVING),
        "sketches": write_style(fresh(root / "sketches"), pencil, PENCIL),
        "mascot": write_mascot(fresh(root / "mascot")),
    }
    (root / "README.md").write_text(README.format(**counts, classes=len(THINGS), held_out=", ".join(HELD_OUT)))
    facts = {
        "classes": [thing.noun for thing in THINGS],
        "held_out": list(HELD_OUT),
        "backgrounds": {name: list(colour) for name, colour in BACKGROUNDS.items()},
        "triggers": {"engravings": ENGRAVING, "sketches": PENCIL, "mascot": "sks"},
    }
    (ASSETS / "classes.json").write_text(json.dumps(facts, indent=1) + "\n")
    write_prompts(ASSETS / "prompts")


if __name__ == "__main__":
    main()
