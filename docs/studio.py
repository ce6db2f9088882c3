"""Make the pictures of the studio: start the server on mini, click the whole way in Chromium, photograph each page.

    python docs/studio.py                       # docs/pictures/studio-*.png
    python docs/studio.py --steps 20 --to /tmp  # quicker, elsewhere

Nothing is picked or touched up: the data are the embedded engravings, the seeds the first ones, and what stands on the
pages is what this run of the server drew, trained and counted. ``--folder`` keeps the server's data, so that a later
call takes the pictures anew without training again.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402  (lies among the tests)
from PIL import Image  # noqa: E402
from served import serving  # noqa: E402

if TYPE_CHECKING:
    from served import Server

PICTURES = ROOT / "src" / "brushwork" / "assets" / "datasets" / "engravings"
PROMPTS = "a cat, old ink engraving\na castle, old ink engraving\na bicycle, old ink engraving"
WIDTH, NARROW = 1280, 420
SEEN = """[...document.querySelectorAll("main img")].every((each) => {
    const { top, width } = each.getBoundingClientRect();
    return each.complete || !width || top > innerHeight;
})"""
"""The pictures that one sees are loaded."""
COLOURS = 224
"""Of the pictures' palettes: pages have few, and the files stay small."""


class Photographer:
    """A browser on the studio that saves what it sees."""

    def __init__(self, browser: Browser, server: Server, folder: Path) -> None:
        self.browser, self.server, self.folder = browser, server, folder

    def go(self, page: str, ready: str) -> None:
        """Open a page and wait until it shows something."""
        self.browser.send("Page.navigate", url="about:blank")
        self.browser.open(f"{self.server.url}#{page}")
        self.browser.wait(ready)

    def fill(self, **values: str) -> None:
        """Write into fields as a person does."""
        for name, value in values.items():
            self.browser.value(
                f"""(() => {{
                    const control = document.querySelector("form").elements[{json.dumps(name)}];
                    control.value = {json.dumps(value)};
                    for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, {{ bubbles: true }}));
                }})()"""
            )

    def press(self, text: str, within: str = "main") -> None:
        """Press the button with a text."""
        self.browser.value(
            f"[...document.querySelectorAll('{within} button')].find((e) => e.innerText === {json.dumps(text)}).click()"
        )

    def take(self, name: str, width: int = WIDTH, height: int = 900, *, dark: bool = False) -> None:
        """Photograph the page."""
        path = self.folder / f"studio-{name}.png"
        self.browser.send("Emulation.setScrollbarsHidden", hidden=True)
        self.browser.value("document.querySelectorAll('.toast').forEach((each) => each.remove()); scrollTo(0, 0)")
        self.browser.screenshot(path, width, height, dark=dark)
        with Image.open(path) as page:
            page.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def data(at: Photographer) -> None:
    """Put a folder of pictures in, and look at what the report says."""
    at.go("data", "!!document.querySelector('form input[name=name]')")
    with at.server.client() as client:
        names = [each["name"] for each in client.get("/api/v1/datasets").json()]
    if "old-books" not in names:
        files = [[each.name, base64.b64encode(each.read_bytes()).decode()] for each in sorted(PICTURES.iterdir())]
        at.browser.value(
            f"""(() => {{
                const chosen = new DataTransfer();
                for (const [name, data] of {json.dumps(files)}) {{
                    chosen.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name));
                }}
                const form = document.querySelector('form');
                form.elements.name.value = 'old-books';
                form.elements.files.files = chosen.files;
                form.requestSubmit();
            }})()"""
        )
        at.browser.wait("location.hash === '#data/old-books'")
    at.go(
        "data/old-books", "!!document.querySelector('.level') && document.querySelectorAll('.pictures img').length > 4"
    )
    at.browser.wait(SEEN)
    at.take("data", height=1000)


def train(at: Photographer, steps: int) -> str:
    """Train on them, photograph it half-way, and return the run's name."""
    with at.server.client() as client:
        done = [each["name"] for each in client.get("/api/v1/runs").json() if each["status"] == "done"]
    if done:
        return str(done[0])
    at.go("train/old-books", "!!document.querySelector('form [name=steps]')")
    at.fill(**{"steps": str(steps), "validation.prompts": PROMPTS, "train.validation_steps": str(steps // 6)})
    at.press("What will it be?")
    at.browser.wait("!!document.querySelector('#estimate strong')")
    at.browser.value("document.querySelector('form').requestSubmit()")
    late = f"Number(/Step (\\d+) of/.exec(document.body.innerText)?.[1]) > {steps * 2 // 3}"
    at.browser.wait(f"{late} && document.querySelectorAll('.growth img').length > 2")
    at.take("train", height=1000)
    at.browser.wait("document.querySelector('main').innerText.includes('Done.')")
    return str(at.browser.value("document.querySelector('main a[href*=\"/report\"]').href.split('/').at(-2)"))


def generate(at: Photographer, run: str) -> None:
    """Draw with the tuned model, and an X/Y/Z plot."""
    at.go(f"generate/{run}", "!!document.querySelector('form [name=prompt]')")
    at.fill(prompt="a horse, old ink engraving", n="4", seed="1", x_axis="", y_axis="")
    at.browser.value("document.querySelector('form').requestSubmit()")
    at.browser.wait("document.querySelectorAll('.card .pictures figure a img').length >= 4")
    at.browser.wait(SEEN)
    at.take("generate", height=1000)
    at.take("generate-narrow", NARROW, 900, dark=True)
    at.fill(
        prompt="a ship, old ink engraving",
        seed="1",
        x_axis="steps",
        x_values="4, 8, 20",
        y_axis="guidance_scale",
        y_values="2, 5, 8",
    )
    at.browser.value("document.querySelector('form').requestSubmit()")
    at.browser.wait("document.querySelectorAll('table.sheet img').length >= 9")
    at.browser.wait(SEEN)
    at.take("plot", height=1000)


def compare(at: Photographer, run: str) -> None:
    """Lay base and tuned side by side."""
    at.go(f"compare/{run}", "document.querySelectorAll('input[type=checkbox]:checked').length === 2")
    at.fill(prompts=PROMPTS, n="1", seed="1")
    at.browser.value("document.querySelector('form').requestSubmit()")
    at.browser.wait("document.querySelectorAll('table.sheet img').length === 6")
    at.browser.wait(SEEN)
    at.take("compare", height=1000)


def vote(at: Photographer, run: str) -> None:
    """Make a vote of the run, and photograph the page that raters see."""
    with at.server.client() as client:
        client.post("/api/v1/votes", json={"run": run})
    at.go(f"vote/{run}", "!!document.querySelector('a[href$=\"page/\"]')")
    at.take("vote", height=420)


def runs(at: Photographer, run: str) -> None:
    """Look at what was measured."""
    at.go(f"runs/{run}", "!!document.querySelector('.chart') && document.querySelectorAll('.growth img').length > 2")
    at.browser.wait(SEEN)
    at.take("runs", height=1100)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="The server's data, kept.")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="studio-"))
    try:
        with serving(folder) as server, Browser(width=WIDTH) as browser:
            browser.patience = 3600.0
            at = Photographer(browser, server, asked.to)
            data(at)
            run = train(at, asked.steps)
            generate(at, run)
            compare(at, run)
            vote(at, run)
            runs(at, run)
            if browser.problems:
                sys.exit("\n".join(browser.problems))
    finally:
        if asked.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
