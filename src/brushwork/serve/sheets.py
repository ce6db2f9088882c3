"""A job's pictures as tables, and the tables as one labelled picture: what is shown, saved and given to others.

    tables_of("grid", asked, count)             # one table for each value of z: x across, y down
    write(row, path_of)                         # PNG, with what it was made from inside

The tables are in the API's answers, so the page and the saved picture cannot differ.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import infotext
from brushwork.serve.grids import NOTHING, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from brushwork.serve.store import JobRow

MOST = 40_000_000
"""Pixels of a sheet: the pictures in it are made smaller to keep to it."""
LEAST = 32
"""Pixels that a picture in a sheet is never made smaller than."""
WORDS = {
    "guidance_scale": "CFG scale", "adapter_weight": "adapter weight", "clip_skip": "clip skip", "vae": "VAE",
    "noise_multiplier": "noise multiplier", "variation_seed": "variation seed", "hires_steps": "hires steps",
    "variation_strength": "variation strength", "hires_strength": "hires strength", "hires_sampler": "hires",
    "hires_upscaler": "hires", "prompt": "", "model": "", "nothing": "",
    "mask_strength": "mask strength",
}  # fmt: skip
A1111 = {
    "model": "Checkpoint name", "prompt": "Prompt S/R", "seed": "Seed", "steps": "Steps", "guidance_scale": "CFG Scale",
    "sampler": "Sampler", "size": "Size", "adapter": "Adapter", "adapter_weight": "Adapter weight",
    "clip_skip": "Clip skip", "vae": "VAE", "schedule": "Schedule type", "strength": "Denoising",
    "hires_strength": "Denoising", "noise_multiplier": "Initial noise multiplier", "variation_seed": "Var. seed",
    "variation_strength": "Var. strength", "hires_steps": "Hires steps", "hires_sampler": "Hires sampler",
    "hires_upscaler": "Hires upscaler", "mask_strength": "Cond. Image Mask Weight",
}  # fmt: skip
"""The axes' names in an infotext: A1111's, where it has the axis."""


@dataclass(frozen=True)
class Table:
    """The picture in row i and column k is number ``first + i * len(columns) + k`` of its job."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    first: int = 0


def tables_of(kind: str, asked: Mapping[str, Any], count: int) -> list[Table]:
    """Return a job's tables: a grid's for each value of z, a comparison's with models across; of other jobs none."""
    if kind == "grid":
        labels = [tuple(_label(axis["name"], value) for value in axis["values"]) for axis in asked["axes"]]
        columns, rows, titles = [*labels, ("",), ("",)][:3]
        size = len(columns) * len(rows)
        return [Table(title, columns, rows, place * size) for place, title in enumerate(titles)]
    if kind == "compare":
        prompts, models = tuple(asked.get("prompts") or (asked["prompt"],)), tuple(asked["models"])
        seeds = count // (len(models) * len(prompts))
        rows = tuple(text if seeds == 1 else f"{text}\n({each + 1})" for text in prompts for each in range(seeds))
        return [Table("", models, rows)]
    return []


def _label(name: str, value: str | float) -> str:
    return f"{WORDS.get(name, name)} {shown(value)}".strip()


def write(
    row: JobRow,
    path_of: Callable[[str], Path],
    *,
    only: int | None = None,
    labelled: bool = True,
    between: int | None = None,
) -> bytes:
    """Return all finished pictures of a job on one labelled sheet, as PNG.

    Args:
        row: The job; one picture of it is finished at least.
        path_of: Returns the file of a picture by its id.
        only: The table that is wanted, by its place; None: all, below one another.
        labelled: Whether what tells the pictures apart is written beside them.
        between: Pixels between two pictures; None: as many as look well.
    """
    from PIL.PngImagePlugin import PngInfo

    from brushwork.compare import grid

    files = {each.place: path_of(each.id) for each in row.pictures if each.state == "done"}
    count = len(row.pictures)
    wide = math.ceil(math.sqrt(count))
    usual = Table("", ("",) * wide, ("",) * math.ceil(count / wide))
    tables = tables_of(row.kind, row.asked, count) or [usual]
    blocks = [_block(grid, each, files, labelled=labelled) for each in (tables if only is None else [tables[only]])]
    sheet = grid.sheet(blocks, max(LEAST, math.isqrt(MOST // count) - (between or 0)), between)
    chunks = PngInfo()
    first = next((each.infotext for each in row.pictures if each.infotext), None)
    if first is not None:
        chunks.add_text(infotext.PARAMETERS, described(row.kind, row.asked, first))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def _block(grid: Any, table: Table, files: Mapping[int, Path], *, labelled: bool) -> Any:
    wide = len(table.columns)
    rows = []
    for place, label in enumerate(table.rows):
        cells = tuple(grid.Shown(files.get(table.first + place * wide + column)) for column in range(wide))
        rows.append((label if labelled else "", cells))
    return grid.Block(table.title if labelled else "", table.columns if labelled else ("",) * wide, tuple(rows))


def described(kind: str, asked: Mapping[str, Any], first: str) -> str:
    """Return a sheet's infotext: that of its first picture, with the axes as A1111's X/Y/Z plot writes them."""
    found = infotext.parse(first)
    fields = dict(found.fields)
    if kind == "grid":
        fields["Script"] = "X/Y/Z plot"
        for letter, axis in zip("XYZ", asked["axes"], strict=False):
            if axis["name"] == NOTHING:
                continue
            fields[f"{letter} Type"] = A1111[axis["name"]]
            fields[f"{letter} Values"] = _written(axis["values"])
    return infotext.write(found.prompt, found.negative_prompt, fields)


def _written(values: Sequence[str | float]) -> str:
    """Return the values of an axis as they are typed: separated by commas, quoted where they have one."""
    parts = []
    for value in values:
        text = shown(value)
        parts.append('"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text)
    return ",".join(part if part.startswith('"') or not place else f" {part}" for place, part in enumerate(parts))
