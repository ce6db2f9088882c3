"""The labelled grid: prompts down, sides across; or the cells of a sweep. As a picture, and as data for the page.

blocks = by_prompt(drawn, wanted)
sheet(blocks).save("grid.png")
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brushwork.compare.sides import prompt_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from brushwork.compare.sides import DrawnSide, Wanted

MOST_PROMPTS = {"target": 12, "control": 4}
MOST_SWEEP_PROMPTS = 4
SHOWN, GAP, LABEL, LINE = 128, 6, 150, 15
"""Pixels: a picture's side in the sheet at least, the space between two, the labels' column, a line of text."""
LARGEST = 192
INK, PAPER = "#33302b", "#ffffff"


@dataclass(frozen=True)
class Shown:
    """One picture, and a line below it."""

    path: Path | None
    text: str = ""


@dataclass(frozen=True)
class Block:
    """A grid with labels."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]


def by_prompt(drawn: Sequence[DrawnSide], wanted: Wanted) -> list[Block]:
    """Return one block for each set of prompts: the first seed of each prompt, nothing selected.

    Of several training runs of one method the first is shown.
    """
    first: dict[str, DrawnSide] = {}
    for side in drawn:
        first.setdefault(side.side.line, side)
    blocks = []
    for prompt_set, places in wanted.prompt_sets:
        rows = []
        for place in places[: MOST_PROMPTS[prompt_set]]:
            shown = [Shown(side.folder / side.names[place * wanted.seeds]) for side in first.values()]
            rows.append((wanted.prompts[place], tuple(shown)))
        title = "Control prompts" if prompt_set == "control" else "Prompts"
        blocks.append(Block(title, tuple(first), tuple(rows)))
    return blocks


def by_cell(drawn: Sequence[DrawnSide], wanted: Wanted, numbers: Mapping[str, Sequence[str]]) -> list[Block]:
    """Return a block for each prompt and each value of the third axis; ``numbers`` by key are written below cells."""
    axes: dict[str, list[str]] = {}
    for side in drawn:
        for axis, value in side.side.at.items():
            axes.setdefault(axis, [])
            axes[axis] += [value] if value not in axes[axis] else []
    names = list(axes)
    across, down, deep = names[0], names[1] if len(names) > 1 else None, names[2] if len(names) > 2 else None  # noqa: PLR2004
    blocks = []
    for place in range(min(len(wanted.target), MOST_SWEEP_PROMPTS)):
        depths: list[str | None] = [*axes[deep]] if deep else [None]
        for depth in depths:
            inside = [side for side in drawn if deep is None or side.side.at[deep] == depth]
            rows = []
            values: list[str | None] = [*axes[down]] if down else [None]
            for height in values:
                row = [side for side in inside if down is None or side.side.at[down] == height]
                by_value = {side.side.at[across]: side for side in row}
                shown = [_cell(by_value.get(each), place, wanted, numbers) for each in axes[across]]
                rows.append((f"{down} {height}" if down else "", tuple(shown)))
            prompt = wanted.target[place]
            title = f"{prompt} ({deep} {depth})" if deep else prompt
            blocks.append(Block(title, tuple(f"{across} {each}" for each in axes[across]), tuple(rows)))
    return blocks


def _cell(side: DrawnSide | None, place: int, wanted: Wanted, numbers: Mapping[str, Sequence[str]]) -> Shown:
    if side is None:
        return Shown(None)
    told = numbers.get(side.side.key, ())
    return Shown(side.folder / side.names[place * wanted.seeds], told[place] if place < len(told) else "")


def prompts_of(side: DrawnSide, wanted: Wanted) -> list[str]:
    """Return the prompts as a side drew them."""
    return [prompt_of(side.side, text, wanted) for text in wanted.prompts]


def sheet(blocks: Sequence[Block], largest: int = LARGEST, between: int | None = None) -> Image:
    """Draw the blocks below one another, with their labels; without any, no room is left for them.

    Args:
        blocks: The grids.
        largest: Pixels of a picture's longer side; larger pictures are made smaller. Labels grow with large pictures.
        between: Pixels between two pictures; None: as many as look well.
    """
    from PIL import Image as Images
    from PIL import ImageDraw, ImageFont

    side = _side(blocks, largest)
    scale = max(1.0, side / (2 * LARGEST))
    line, gap, margin = (round(scale * each) for each in (LINE, GAP, LABEL))
    gap = gap if between is None else between
    named = any(block.title or any(block.columns) for block in blocks)
    head = line * 4 if named else gap
    if not any(label for block in blocks for label, _ in block.rows):
        margin = gap
    font = ImageFont.load_default(13 * scale)
    heights = [head + len(block.rows) * (side + gap + _under(block, line)) for block in blocks]
    width = margin + max(len(block.columns) for block in blocks) * (side + gap)
    image = Images.new("RGB", (width, sum(heights)), PAPER)
    pen = ImageDraw.Draw(image)
    top = 0
    for block, height in zip(blocks, heights, strict=True):
        pen.text((4, top + 4), block.title, INK, font)
        for column, label in enumerate(block.columns):
            middle = margin + column * (side + gap) + side // 2
            text = _wrapped(label, side / scale)
            pen.multiline_text((middle, top + line + 6), text, INK, font, anchor="ma", align="center")
        for row, (label, pictures) in enumerate(block.rows):
            height_of_row = side + gap + _under(block, line)
            upper = top + (head - 8 if named else head) + row * height_of_row
            pen.multiline_text((4, upper + 4), _wrapped(label, LABEL - 12), INK, font)
            for column, shown in enumerate(pictures):
                left = margin + column * (side + gap)
                if shown.path is not None:
                    image.paste(_scaled(shown.path, side), (left, upper))
                if shown.text:
                    pen.text((left + side // 2, upper + side + 1), shown.text, INK, font, anchor="ma")
        top += height
    return image


def _under(block: Block, line: int) -> int:
    return line if any(shown.text for _, row in block.rows for shown in row) else 0


def _wrapped(text: str, width: float) -> str:
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, max(8, int(width / 7)))]
    return "\n".join(lines[:3])


def _side(blocks: Sequence[Block], largest: int) -> int:
    from PIL import Image as Images

    path = next(shown.path for block in blocks for _, row in block.rows for shown in row if shown.path)
    with Images.open(path) as picture:
        return max(SHOWN, min(largest, max(picture.size)))


def _scaled(path: Path, side: int) -> Image:
    from PIL import Image as Images

    with Images.open(path) as picture:
        image = picture.convert("RGB")
    factor = side / max(image.size)
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Images.Resampling.BICUBIC if factor > 1 else Images.Resampling.LANCZOS)
