"""Make the pictures of the README and the docs from a finished demo run.

    brushwork demo --out runs/demo
    python docs/pictures.py runs/demo

Nothing is picked: the first seed of each of the first target prompts, base above tuned, and the report in a browser
when Chromium is there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PICTURES = Path(__file__).parent / "pictures"
SIDE, GAP, LABEL, COLUMNS = 128, 6, 20, 8
INK, PAPER = "#33302b", "#ffffff"


def before_after(run: Path, target: Path) -> None:
    """Write base above tuned for the first seed of the first target prompts."""
    from brushwork.runs import RunFolder

    validation = RunFolder(run).config.validation
    names = sorted(path.name for path in (run / "evaluation" / "base").glob("*.png"))
    first = names[: COLUMNS * validation.images_per_prompt : validation.images_per_prompt]
    width = LABEL * 3 + len(first) * (SIDE + GAP)
    sheet = Image.new("RGB", (width, 2 * (SIDE + GAP) + LABEL), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, side in enumerate(("base", "tuned")):
        draw.text((0, row * (SIDE + GAP) + SIDE // 2 - 8), side, INK, font)
        for column, name in enumerate(first):
            with Image.open(run / "evaluation" / side / name) as picture:
                large = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(large, (LABEL * 3 + column * (SIDE + GAP), row * (SIDE + GAP)))
    for column, prompt in enumerate(validation.prompts[: len(first)]):
        place = (LABEL * 3 + column * (SIDE + GAP) + SIDE // 2, 2 * (SIDE + GAP) + 2)
        draw.text(place, str(prompt).partition(",")[0], INK, font, anchor="ma")
    sheet.save(target, optimize=True)


def screenshot(page: Path, target: Path, width: int = 1200, height: int = 1500) -> None:
    """Photograph the top of the report, if a Chromium is installed."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium: the report is not photographed", file=sys.stderr)
        return
    subprocess.run(  # noqa: S603  (our own page)
        [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}",
         f"--screenshot={target}", page.resolve().as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def main() -> None:
    """Make all pictures from the run that is named."""
    run = Path(sys.argv[1])
    PICTURES.mkdir(exist_ok=True)
    before_after(run, PICTURES / "before-after.png")
    screenshot(run / "report.html", PICTURES / "report.png")


if __name__ == "__main__":
    main()
