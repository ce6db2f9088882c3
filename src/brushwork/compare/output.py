"""What a comparison leaves: compare.json, grid.png, Pareto plots, and index.html, one self-contained page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import __version__, wording
from brushwork.compare import grid, pareto, tables
from brushwork.compare.sides import prompt_of
from brushwork.runs import replacing, write_json
from brushwork.thumbnails import data_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup
    from PIL.Image import Image

    from brushwork.compare.grid import Block
    from brushwork.compare.judging import Facts, Number
    from brushwork.compare.sides import DrawnSide, Wanted
    from brushwork.compare.tables import Table

ASSETS = Path(__file__).parent.parent / "assets"
PAGE, RECORD, GRID = "index.html", "compare.json", "grid.png"
LARGEST = 9_500_000
"""Bytes of the page."""
SIDES = (256, 192, 128, 96)
"""Pictures in the page; the first with which it is small enough is taken."""
PLOTS = (
    ("fit-drift", "Fit against forgetting", ("drift", "control"), ("clip_i", "target")),
    ("clip-drift", "Prompt against forgetting", ("drift", "control"), ("clip", "target")),
)
"""File, title, and the two metrics that are plotted: x (less is better), y (more is better)."""
AXES = {
    "drift": "drift on control prompts (1: another seed)",
    "clip_i": "fit: cosine with the training pictures",
    "clip": "CLIP-T: cosine with the prompt",
}


@dataclass
class Findings:
    """Everything that was found, before it is written down."""

    kind: str
    title: str
    lead: str
    wanted: Wanted
    drawn: list[DrawnSide]
    reference: str
    lines: Mapping[str, Sequence[Number]]
    facts: Facts
    request: dict[str, Any]
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen: dict[str, list[str]] = field(default_factory=dict)
    """What was chosen by rule for each line, with the reasons."""
    proofs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: the table, the labelled grid, and where the rest lies."""

    folder: Path
    table: Table
    grid: Image
    record: dict[str, Any]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> Path:
        """The page with everything."""
        return self.folder / PAGE

    def __str__(self) -> str:
        return self.table.text()


def finish(found: Findings, folder: Path) -> Comparison:
    """Write everything, and return it."""
    swept = bool(found.drawn and found.drawn[0].side.at)
    under = _under(found)
    blocks = grid.by_cell(found.drawn, found.wanted, under) if swept else grid.by_prompt(found.drawn, found.wanted)
    picture = grid.sheet(blocks)
    with replacing(folder / GRID) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
    plots = _plots(found)
    for name, plot in plots.items():
        with replacing(folder / f"{name}.svg") as temporary:
            temporary.write_text(plot, "utf-8")
    table = tables.quality(found.lines, found.facts.data)
    write_json(folder / RECORD, _record(found))
    record = json.loads((folder / RECORD).read_text("utf-8"))
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(_page(found, blocks, plots, table), "utf-8")
    return Comparison(folder, table, picture, record, found.failed)


def _under(found: Findings) -> dict[str, list[str]]:
    """Return what is written below a side's pictures in a sweep, by target prompt: CLIP-T, else the first number."""
    told = {}
    for side in found.drawn:
        numbers = [each for each in found.lines.get(side.side.line, ()) if each.prompt_set == "target"]
        clip = next((each for each in numbers if each.metric == "clip"), None)
        first = clip or next((each for each in numbers if each.by_prompt), None)
        if first is not None:
            told[side.side.key] = [f"{first.metric} {wording.number(value)}" for value in first.by_prompt]
    return told


def _plots(found: Findings) -> dict[str, Markup]:
    plots = {name: pareto.plot(title, _points(found, x, y), x=AXES[x[0]], y=AXES[y[0]]) for name, title, x, y in PLOTS}
    seconds = [
        pareto.Point(line, cost["step_seconds"], number.value, up=number.interval)
        for line, cost in found.costs.items()
        if cost.get("step_seconds") and (number := _number(found, line, ("clip_i", "target")))
    ]
    plots["fit-time"] = pareto.plot(
        "Fit against training time", seconds, x="seconds of training steps", y=AXES["clip_i"]
    )
    return {name: plot for name, plot in plots.items() if plot}


def _points(found: Findings, x: tuple[str, str], y: tuple[str, str]) -> list[pareto.Point]:
    points = []
    for line in found.lines:
        across, up = _number(found, line, x), _number(found, line, y)
        if up is None or (across is None and line != found.reference):
            continue
        # The reference differs from itself by nothing: zero, exactly.
        place, ends, runs = (0.0, None, ()) if across is None else (across.value, across.interval, across.runs)
        pairs = tuple(zip(runs, up.runs, strict=True)) if len(runs) == len(up.runs) else ()
        points.append(pareto.Point(line, place, up.value, ends, up.interval, pairs))
    return points if len(points) > 2 else []  # noqa: PLR2004  (two points are no choice)


def _number(found: Findings, line: str, key: tuple[str, str]) -> Number | None:
    return next((each for each in found.lines.get(line, ()) if (each.metric, each.prompt_set) == key), None)


def _record(found: Findings) -> dict[str, Any]:
    wanted = found.wanted
    return {
        "kind": found.kind,
        "title": found.title,
        "brushwork": __version__,
        "request": found.request,
        "reference": found.reference,
        "prompts": {"target": list(wanted.target), "control": list(wanted.control), "seeds": wanted.seeds},
        "concept": wanted.concept,
        "means": wanted.means,
        "sides": [
            {
                "label": side.side.label,
                "line": side.side.line,
                "model": side.side.model,
                "folder": side.folder.name,
                "at": side.side.at,
                "prompts": [prompt_of(side.side, text, wanted) for text in wanted.prompts],
                "files": list(side.names),
                "seconds_per_picture": side.seconds_per_picture,
                **{key: side.record[key] for key in ("weights", "noise", "sampling", "facts", "proof")},
            }
            for side in found.drawn
        ],
        "lines": [
            {
                "label": label,
                "numbers": [number.to_dict() for number in numbers],
                "cost": found.costs.get(label),
                "chosen": found.chosen.get(label, []),
            }
            for label, numbers in found.lines.items()
        ],
        "data": found.facts.data,
        "encoders": found.facts.encoders,
        "texts_cut": found.facts.cut,
        "proofs": found.proofs,
        "warnings": [*found.warnings, *found.facts.notes],
        "failed": found.failed,
    }


def _page(found: Findings, blocks: Sequence[Block], plots: Mapping[str, Markup], table: Table) -> str:
    page = ""
    for side in SIDES:
        page = _render(found, blocks, plots, table, side)
        if len(page.encode()) <= LARGEST:
            break
    return page


def _render(found: Findings, blocks: Sequence[Block], plots: Mapping[str, Markup], table: Table, side: int) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([ASSETS / "compare", ASSETS / "report"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["curly"] = wording.curly
    return environment.get_template("compare.html.jinja").render(
        style=(ASSETS / "report" / "report.css").read_text("utf-8"),
        version=__version__,
        found=found,
        blocks=[_with_pictures(block, side) for block in blocks],
        plots=plots,
        quality=table,
        costs=tables.costs(found.costs) if found.costs else None,
        drawing=tables.drawing(_drawing(found)),
        differences=tables.differences(found.lines, found.reference),
        caveats=tables.caveats(found.lines),
        mark=tables.MARK,
        method=_method(found),
    )


def _with_pictures(block: Block, side: int) -> dict[str, Any]:
    rows = [
        (label, [{"uri": _uri(shown.path, side) if shown.path else None, "text": shown.text} for shown in row])
        for label, row in block.rows
    ]
    return {"title": block.title, "columns": block.columns, "rows": rows}


def _uri(path: Path, side: int) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return data_uri(image, side)


def _drawing(found: Findings) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for side in found.drawn:
        first, facts = side.record["requests"][0], side.record["facts"]
        sampler = first["sampler"] if side.noise is not None else "its own scheduler"
        drawn = f"{sampler}, {wording.counted(first['steps'], 'step')}, guidance {first['guidance_scale']:g}"
        rows.setdefault(
            side.side.line,
            {
                "architecture": facts["architecture"],
                "drawn": drawn,
                "seconds": side.seconds_per_picture,
                "parameters": facts["parameters"],
            },
        )
    return rows


def _method(found: Findings) -> list[str]:
    """Say how it was measured."""
    wanted, asked = found.wanted, found.wanted.validation
    target, control = len(wanted.target), len(wanted.control)
    told = [
        f"Every line drew the same {wording.counted(target, 'target prompt')}"
        + (f" and {wording.counted(control, 'control prompt')}" if control else "")
        + f", each at {wording.counted(wanted.seeds, 'seed')} of its own (seeds from {asked.seed}). "
        "No picture was selected or drawn again."
    ]
    if wanted.concept:
        told.append(
            f"A method with a word of its own draws it in the place of \N{LEFT DOUBLE QUOTATION MARK}{wanted.concept}"
            f"\N{RIGHT DOUBLE QUOTATION MARK}; the judge, and the base, read \N{LEFT DOUBLE QUOTATION MARK}"
            f"{wanted.means or wanted.concept}\N{RIGHT DOUBLE QUOTATION MARK} for every line."
        )
    pairing = {number.paired for numbers in found.lines.values() for number in numbers}
    if "prompt" in pairing:
        told.append(
            "Some lines cannot share the reference's noise (another latent shape or size): they are paired by prompt "
            "and not by seed, and what needs the same noise is left out for them."
        )
    told.append(
        "The unit is the prompt: seeds are averaged, intervals are 95 % percentile intervals of 10,000 bootstrap draws "
        "of whole prompts, p is of the two-sided sign-flip test over prompts, Holm's adjustment is over the lines."
    )
    if any(number.runs for numbers in found.lines.values() for number in numbers):
        told.append(
            "Lines with several training seeds are means over runs; their intervals resample runs and prompts "
            "together. p says nothing about other training runs, only about other prompts."
        )
    judges = [each for each in found.facts.encoders if each["name"] not in ("colour", "luminance", "pixels")]
    told += [
        f"{each['name']}: weights {each['revision']}, preprocessing {each['preprocessing']}. Numbers of different "
        f"judges cannot be compared."
        for each in judges
    ]
    if any(each["name"] == "mini-clip" for each in judges):
        told.append("mini-clip was trained on the same rendered scenes as mini: it is no independent judge of it.")
    if found.facts.cut:
        told.append(f"Prompts longer than the judge reads, cut off at the end: {len(found.facts.cut)}.")
    return told
