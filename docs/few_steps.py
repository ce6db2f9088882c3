"""Make the picture of the docs' page on methods from a finished LCM run that was evaluated.

    python docs/few_steps.py runs/fast

It writes ``docs/pictures/lcm.jpg``: for each prompt the first seed (nothing is picked), drawn by the base as usual, by
the base in as few steps as the run, and by the run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

SIDES = ("usual", "base", "tuned")
GAP, SCALE, QUALITY = 4, 2, 85


def main() -> None:
    """Write the picture."""
    folder, out = Path(sys.argv[1]) / "evaluation", Path(__file__).parent / "pictures" / "lcm.jpg"
    names = sorted(each.name for each in (folder / "tuned").glob("*.png"))
    first = list({name.partition("-")[0]: name for name in reversed(names)}.values())[::-1]
    with Image.open(folder / "tuned" / first[0]) as image:
        side = image.width * SCALE
    sheet = Image.new("RGB", (len(first) * (side + GAP) - GAP, len(SIDES) * (side + GAP) - GAP), "white")
    for row, drawn_by in enumerate(SIDES):
        for column, name in enumerate(first):
            with Image.open(folder / drawn_by / name) as image:
                sheet.paste(
                    image.resize((side, side), Image.Resampling.NEAREST), (column * (side + GAP), row * (side + GAP))
                )
    sheet.save(out, quality=QUALITY)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
