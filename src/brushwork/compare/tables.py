"""The numbers of a comparison as a table: for the page, for Markdown and for a terminal.

    table = quality(lines, facts)
    print(table.text())
    table.markdown()

A cell has its value and, below it, the 95 % interval; the best value of a column is marked where one is best.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork import wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brushwork.compare.judging import Number

TITLES = {
    ("clip", "target"): ("CLIP-T", "cosine of picture and prompt"),
    ("clip_i", "target"): ("fit", "cosine with the training pictures"),
    ("saturation", "target"): ("saturation", "HSV, 0 to 1"),
    ("drift", "control"): ("drift", "on control prompts; 1: another seed"),
    ("clip", "control"): ("CLIP-T, control", "on control prompts"),
    ("diversity", "target"): ("diversity", "1 - cosine between seeds"),
    ("memorisation", "target"): ("copies", "share nearer to the data than 95 % of it to itself"),
    ("change", "target"): ("change", "from the reference; 1: another seed"),
}
"""The columns of the first table, in this order: metric and prompt set, title, what it is."""

MARK = "\N{DAGGER}"
"""Marks a number with a caveat."""


@dataclass(frozen=True)
class Cell:
    """A value as it is written, with a second line."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows by label; every row has a cell for each column."""

    columns: tuple[str, ...]
    notes: tuple[str, ...]
    """What a column is, in a few words."""
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    remarks: tuple[str, ...] = field(default=())

    def markdown(self) -> str:
        """Return a Markdown table, intervals in brackets."""
        head = ["", *self.columns]
        lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        for label, cells in self.rows:
            texts = [f"{_bold(cell)}{f' ({cell.small})' if cell.small else ''}" for cell in cells]
            lines.append(f"| {' | '.join([label, *texts])} |")
        return "\n".join(lines)

    def text(self) -> str:
        """Return lines for a terminal, columns aligned."""
        rows = [["", *self.columns]]
        for label, cells in self.rows:
            rows.append([label, *(f"{cell.text}{f' [{cell.small}]' if cell.small else ''}" for cell in cells)])
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )


def _bold(cell: Cell) -> str:
    return f"**{cell.text}**" if cell.best else cell.text


def quality(lines: Mapping[str, Sequence[Number]], data: Mapping[str, float]) -> Table:
    """Return what was measured of each line: the values with their intervals."""
    keys = [key for key in TITLES if any(_find(numbers, key) for numbers in lines.values())]
    rows = []
    for label, numbers in lines.items():
        cells = []
        for key in keys:
            found = _find(numbers, key)
            cells.append(_value(found, best=label in _best(lines, key, data)) if found else Cell("\N{EN DASH}"))
        rows.append((label, tuple(cells)))
    own = [f"{TITLES[name, side][0]} {wording.number(data[name])}" for name, side in keys if name in data]
    remarks = (f"The training pictures themselves: {', '.join(own)}.",) if own else ()
    titles = [TITLES[key] for key in keys]
    return Table(tuple(each[0] for each in titles), tuple(each[1] for each in titles), tuple(rows), remarks)


def caveats(lines: Mapping[str, Sequence[Number]]) -> list[str]:
    """Return what must be said of the values in the first table, each once."""
    shown = (number for numbers in lines.values() for number in numbers if (number.metric, number.prompt_set) in TITLES)
    return list(dict.fromkeys(number.caveat for number in shown if number.caveat))


def _find(numbers: Sequence[Number], key: tuple[str, str]) -> Number | None:
    return next((each for each in numbers if (each.metric, each.prompt_set) == key), None)


def _value(number: Number, *, best: bool) -> Cell:
    mark = MARK if number.caveat else ""
    low, high = (wording.number(end) for end in number.interval or (None, None))
    return Cell(f"{wording.number(number.value)}{mark}", f"{low} to {high}" if number.interval else "", best=best)


def _best(lines: Mapping[str, Sequence[Number]], key: tuple[str, str], data: Mapping[str, float]) -> set[str]:
    """Return the labels with the best number of a column; none where nothing is better as such, or all are equal."""
    found = {label: number for label, numbers in lines.items() if (number := _find(numbers, key)) is not None}
    direction = next((each.direction for each in found.values()), "")
    if key[0] == "change":
        return set()  # to have changed little is no merit as such
    if direction == "closer" and key[0] in data:
        scores = {label: abs(each.value - data[key[0]]) for label, each in found.items()}
    elif direction in ("higher", "lower"):
        scores = {label: each.value if direction == "lower" else -each.value for label, each in found.items()}
    else:
        return set()
    least = min(scores.values())
    best = {label for label, score in scores.items() if score == least}
    return best if len(best) < len(scores) else set()


def differences(lines: Mapping[str, Sequence[Number]], reference: str) -> Table:
    """Return what was measured against the reference, one row for each line and metric."""
    rows = []
    for label, numbers in lines.items():
        for number in numbers:
            if number.difference is None:
                continue
            rows.append(
                (
                    label,
                    (
                        Cell(f"{number.metric}, {number.prompt_set}{MARK if number.caveat else ''}"),
                        Cell(wording.signed(number.difference)),
                        Cell(wording.span(number.difference_interval)),
                        Cell(wording.p_text(number.p), f"smallest {wording.p_text(number.smallest_p)}"),
                        Cell(wording.p_text(number.p_holm)),
                        Cell("seed" if number.paired == "seed" else "prompt only"),
                    ),
                )
            )
    columns = ("metric", f"difference from {reference}", "95 %", "p", "p (Holm)", "paired by")
    notes = ("", "", "over prompts (and training runs)", "sign flips of prompts", "over the lines of a metric", "")
    return Table(columns, notes, tuple(rows))


def costs(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what each line cost; ``rows`` are keyed by label, values may be None."""
    columns: list[tuple[str, str, str, Any]] = [
        ("learning_rate", "rate", "of the optimizer", _rate),
        ("steps", "steps", "optimizer steps", wording.grouped),
        ("pictures_seen", "seen", "pictures", wording.grouped),
        ("step_seconds", "training", "time of the steps", wording.duration),
        ("prepare_seconds", "before it", "loading, encoding", wording.duration),
        ("peak_memory_bytes", "peak memory", "of its own process", wording.size),
        ("trainable_parameters", "trained", "parameters", wording.grouped),
        ("artefact_bytes", "file", "on disk", wording.size),
    ]
    shown = [each for each in columns if any(row.get(each[0]) is not None for row in rows.values())]
    made = tuple(
        (
            label,
            tuple(
                Cell("\N{EN DASH}" if row.get(key) is None else write(row[key]), row.get(f"{key}_range") or "")
                for key, _, _, write in shown
            ),
        )
        for label, row in rows.items()
    )
    return Table(tuple(each[1] for each in shown), tuple(each[2] for each in shown), made)


def drawing(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return how each line is drawn, how fast, and how large its model is."""
    made = tuple(
        (
            label,
            (
                Cell(str(row["architecture"])),
                Cell(row["drawn"]),
                Cell("\N{EN DASH}" if row["seconds"] is None else f"{row['seconds']:.2g} s"),
                Cell(wording.grouped(row["parameters"])),
            ),
        )
        for label, row in rows.items()
    )
    return Table(("architecture", "drawn with", "a picture", "parameters"), ("", "", "as measured here", ""), made)


def _rate(value: float) -> str:
    return f"{value:.2g}"
