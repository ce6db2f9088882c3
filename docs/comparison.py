"""Make a page of the docs from a finished comparison of methods.

    brushwork compare recipes/compare/engravings.yaml --out comparisons/engravings
    python docs/comparison.py comparisons/engravings bakeoff-engravings

It writes ``docs/NAME.md`` with the tables, ``docs/pictures/NAME.jpg`` with the first seed of each of the first prompts
(nothing is picked), and the plots beside it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.compare import grid, tables
from brushwork.compare.judging import Number

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
SHOWN = {"target": 8, "control": 3}
QUALITY = 82
PLOTS = {
    "fit-drift": "fit against drift on control prompts",
    "clip-drift": "CLIP-T against drift on control prompts",
    "fit-time": "fit against seconds of training",
}


def blocks(folder: Path, record: dict[str, Any]) -> Iterator[grid.Block]:
    """Yield the pictures of the first prompts of each set, one column for each line."""
    first: dict[str, Any] = {}
    for side in record["sides"]:
        first.setdefault(side["line"], side)
    prompts, start = record["prompts"], 0
    for name in ("target", "control"):
        rows = []
        for place, prompt in enumerate(prompts[name][: SHOWN[name]], start):
            paths = [
                folder / "pictures" / side["folder"] / side["files"][place * prompts["seeds"]]
                for side in first.values()
            ]
            rows.append((prompt, tuple(map(grid.Shown, paths))))
        start += len(prompts[name])
        if rows:
            yield grid.Block("Control prompts" if name == "control" else "Prompts", tuple(first), tuple(rows))


def page(folder: Path, record: dict[str, Any], name: str) -> str:
    """Return the page."""
    lines = {line["label"]: [Number(**number) for number in line["numbers"]] for line in record["lines"]}
    costs = {line["label"]: line["cost"] for line in record["lines"] if line["cost"]}
    quality, cost = tables.quality(lines, record["data"]), tables.costs(costs)
    request = record["request"]
    budget = f"{request['steps']} steps" if request["steps"] else f"{request['seconds']:g} seconds of steps"
    seeds = f", {request['seeds']} training seeds each" if request["seeds"] > 1 else ", one training seed"
    judges = [each["name"] for each in record["encoders"] if each["name"] not in ("colour", "luminance", "pixels")]
    target, control = (len(record["prompts"][each]) for each in ("target", "control"))
    parts = [
        f"# {record['title']}",
        f"<!-- Written by docs/comparison.py from a comparison by brushwork {record['brushwork']}. -->",
        (
            f"Base `{request['base']}`, {budget}{seeds}; {target} prompts and {control} control prompts, "
            f"{record['prompts']['seeds']} pictures each, the same seeds for every line. How it is done: "
            "[Compare](compare.md)."
        ),
        f"![The first seed of each prompt, one column for each method](pictures/{name}.jpg)",
        "## What it learnt, and what it forgot",
        quality.markdown(),
        "\n".join(f"- {title}: {note}." for title, note in zip(quality.columns, quality.notes, strict=True) if note),
        " ".join(
            [
                "In brackets the 95 % intervals over prompts" + (" and runs." if request["seeds"] > 1 else "."),
                *quality.remarks,
                f"Judge: {', '.join(judges)}." if judges else "",
                *(f"{tables.MARK} {each}." for each in tables.caveats(lines)),
            ]
        ).strip(),
        "## What it cost",
        cost.markdown(),
        *(
            f"![{text}](pictures/{name}-{plot}.svg)"
            for plot, text in PLOTS.items()
            if (folder / f"{plot}.svg").is_file()
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    """Write the page and its pictures."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    record = json.loads((folder / "compare.json").read_text("utf-8"))
    if record["kind"] != "methods":
        sys.exit(f"{folder} compares models; this page is for methods")
    PICTURES.mkdir(exist_ok=True)
    picture = PICTURES / f"{name}.jpg"
    grid.sheet(list(blocks(folder, record))).save(picture, quality=QUALITY, optimize=True, progressive=True)
    for plot in PLOTS:
        if (folder / f"{plot}.svg").is_file():
            shutil.copyfile(folder / f"{plot}.svg", PICTURES / f"{name}-{plot}.svg")
    (DOCS / f"{name}.md").write_text(page(folder, record, name), "utf-8")
    print(f"wrote {DOCS / f'{name}.md'} and {picture} ({picture.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
