"""Write the table of docs/methods.md, every method in one, from two finished comparisons and a finished LCM run.

    brushwork compare recipes/compare/engravings.yaml --out comparisons/engravings
    brushwork compare recipes/compare/mascot.yaml --out comparisons/mascot
    python docs/method_table.py comparisons/engravings comparisons/mascot runs/fast

The run is that of the page's section on LCM, evaluated. What stands between the two markers is replaced; the pictures,
the first seed of the first prompts (nothing is picked), go to ``docs/pictures/methods``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from brushwork import wording
from brushwork.compare import bakeoff, tables
from brushwork.metrics import Result
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures" / "methods"
START, END = "<!-- docs/method_table.py writes from here -->", "<!-- to here -->"
SHOWN, GAP, QUALITY = 5, 2, 88
NONE = "\N{EN DASH}"
MEASURED = {
    "CLIP-T": ("clip", "target"),
    "fit": ("clip_i", "target"),
    "saturation": ("saturation", "target"),
    "drift": ("drift", "control"),
}
COSTS: dict[str, tuple[str, Any]] = {
    "training": ("step_seconds", wording.duration),
    "peak memory": ("peak_memory_bytes", wording.size),
    "trained": ("trainable_parameters", wording.grouped),
    "file": ("artefact_bytes", wording.size),
}


@dataclass(frozen=True)
class Row:
    """A line of the table: what drew, its pictures, what was measured, what training cost."""

    group: str
    label: str
    pictures: Sequence[Path]
    numbers: Mapping[tuple[str, str], tuple[float, tuple[float, float] | None, bool]]
    """By metric and prompt set: value, interval, whether it has a caveat."""
    cost: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its picture."""
        return f"{self.group}-{self.label}".replace(" ", "-").replace(",", "").lower()

    def strip(self) -> str:
        """Write the pictures side by side, and return the file's path from the page."""
        images = [Image.open(path).convert("RGB") for path in self.pictures]
        side = images[0].width
        sheet = Image.new("RGB", (len(images) * (side + GAP) - GAP, side), "white")
        for place, image in enumerate(images):
            sheet.paste(image, (place * (side + GAP), 0))
        PICTURES.mkdir(parents=True, exist_ok=True)
        sheet.save(PICTURES / f"{self.name}.jpg", quality=QUALITY, optimize=True)
        return f"pictures/methods/{self.name}.jpg"

    def cells(self) -> list[str]:
        """Return the row's cells."""
        measured = [self._number(key) for key in MEASURED.values()]
        cost = [NONE if self.cost.get(key) is None else write(self.cost[key]) for key, write in COSTS.values()]
        return [self.label, f"![{self.label}]({self.strip()})", *measured, *cost]

    def _number(self, key: tuple[str, str]) -> str:
        if key not in self.numbers:
            return NONE
        value, interval, doubted = self.numbers[key]
        text = f"{wording.number(value)}{tables.MARK if doubted else ''}"
        return f"{text} ({wording.number(interval[0])} to {wording.number(interval[1])})" if interval else text


def compared(folder: Path, group: str) -> Iterator[Row]:
    """Yield the rows of a comparison of methods."""
    record = json.loads((folder / "compare.json").read_text("utf-8"))
    first: dict[str, Any] = {}
    for side in record["sides"]:
        first.setdefault(side["line"], side)
    seeds = record["prompts"]["seeds"]
    shown = range(min(SHOWN, len(record["prompts"]["target"])))
    for line in record["lines"]:
        side = first[line["label"]]
        numbers = {
            (each["metric"], each["prompt_set"]): (each["value"], each["interval"], bool(each["caveat"]))
            for each in line["numbers"]
        }
        pictures = [folder / "pictures" / side["folder"] / side["files"][place * seeds] for place in shown]
        yield Row(group, line["label"], pictures, numbers, line["cost"] or {})


def distilled(path: Path, group: str) -> Iterator[Row]:
    """Yield the rows of a few-step run: the base as usual, the base in as few steps, and the run."""
    run = RunFolder(path)
    results = [Result.from_dict(each) for each in json.loads((path / "metrics.json").read_text("utf-8"))]
    drawn = json.loads((path / "evaluation" / "evaluation.json").read_text("utf-8"))
    few = run.config.objective.num_inference_steps
    usual = drawn["usual"]["steps"]
    names = sorted(each.name for each in (path / "evaluation" / "tuned").glob("*.png"))
    first = list({name.partition("-")[0]: name for name in reversed(names)}.values())[::-1][:SHOWN]
    for label, side, against, of in (
        (f"base, {usual} steps", "usual", "usual", "base"),
        (f"base, {few} steps", "base", "base", "base"),
        (f"lcm, {few} steps", "tuned", "base", "tuned"),
    ):
        numbers = {
            (each.name, each.prompt_set): (each.value, each.interval, bool(each.caveat))
            for each in results
            if each.of == of and each.against == against
        }
        cost = bakeoff.cost_of(run) if of == "tuned" else {}
        yield Row(group, label, [path / "evaluation" / side / name for name in first], numbers, cost)


def table(groups: Mapping[str, Sequence[Row]]) -> str:
    """Return the table in Markdown."""
    head = ["", "the first prompts, unpicked", *MEASURED, *COSTS]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for title, rows in groups.items():
        lines.append(f"| **{title}** |{' |' * (len(head) - 1)}")
        lines.extend(f"| {' | '.join(row.cells())} |" for row in rows)
    return "\n".join(lines)


def main() -> None:
    """Replace the table of the page."""
    engravings, mascot, fast = map(Path, sys.argv[1:4])
    groups = {
        "A manner: `engravings`": list(compared(engravings, "engravings")),
        "A subject: `mascot`": list(compared(mascot, "mascot")),
        "Fewer steps": list(distilled(fast, "lcm")),
    }
    page = DOCS / "methods.md"
    before, _, rest = page.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n\n{table(groups)}\n\n{END}{after}", "utf-8")
    print(f"wrote the table of {page}")


if __name__ == "__main__":
    main()
