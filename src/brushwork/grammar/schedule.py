"""Words that change from step to step: editing and alternation.

    stretches("a [dog:cat:0.5]", steps=20)      # (Stretch(10, "a dog"), Stretch(20, "a cat"))
    stretches("a [red|blue] ball", steps=4)     # red, blue, red, blue

A square bracket without a time or a bar in it is emphasis and stays as it is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_SPECIAL = "[]:|()"


@dataclass(frozen=True)
class Stretch:
    """The text for all steps up to and with ``last``, counted from 1."""

    last: int
    text: str


@dataclass
class _Bracket:
    """``[...]`` with its parts; text and brackets in each. ``marks`` are what stood between the parts."""

    parts: list[list[str | _Bracket]] = field(default_factory=lambda: [[]])
    marks: list[str] = field(default_factory=list)
    closed: bool = True


def stretches(text: str, steps: int) -> tuple[Stretch, ...]:
    """Return the texts of all steps, equal neighbours as one."""
    root, _ = _parse(text, 0, inside=False)
    found: list[Stretch] = []
    for step in range(1, max(1, steps) + 1):
        words = _at(root.parts[0], step, steps)
        if found and found[-1].text == words:
            found[-1] = Stretch(step, words)
        else:
            found.append(Stretch(step, words))
    return tuple(found)


def _parse(text: str, place: int, *, inside: bool) -> tuple[_Bracket, int]:
    """Read up to the closing bracket (or the end); round brackets shield the colons and bars in them."""
    bracket, depth = _Bracket(), 0
    while place < len(text):
        char = text[place]
        if char == "\\" and text[place + 1 : place + 2] in ("\\", *_SPECIAL):
            bracket.parts[-1].append(text[place : place + 2])
            place += 2
            continue
        depth += {"(": 1, ")": -1}.get(char, 0)
        depth = max(depth, 0)
        if char == "[":
            nested, place = _parse(text, place + 1, inside=True)
            bracket.parts[-1].append(nested)
            continue
        if inside and char == "]":
            return bracket, place + 1
        if inside and char in ":|" and not depth:
            bracket.marks.append(char)
            bracket.parts.append([])
        else:
            bracket.parts[-1].append(char)
        place += 1
    bracket.closed = not inside
    return bracket, place


def _at(nodes: list[str | _Bracket], step: int, steps: int) -> str:
    return "".join(node if isinstance(node, str) else _resolved(node, step, steps) for node in nodes)


def _resolved(bracket: _Bracket, step: int, steps: int) -> str:
    """Return what a bracket says at one step."""
    parts, marks = bracket.parts, bracket.marks
    if bracket.closed and marks and set(marks) == {"|"}:
        return _at(parts[(step - 1) % len(parts)], step, steps)
    when = _time(parts[-1], steps) if bracket.closed and set(marks) == {":"} and len(marks) <= 2 else None  # noqa: PLR2004
    if when is None:
        inside = "".join(mark + _at(part, step, steps) for mark, part in zip(["", *marks], parts, strict=True))
        return f"[{inside}]" if bracket.closed else f"[{inside}"
    before, after = (parts[0], parts[1]) if len(parts) == 3 else ([], parts[0])  # noqa: PLR2004
    return _at(before if step <= when else after, step, steps)


def _time(part: list[str | _Bracket], steps: int) -> int | None:
    """Return the last step before the change: a part of all steps below 1, else a step."""
    if not all(isinstance(each, str) for each in part):
        return None
    try:
        number = float("".join(map(str, part)))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number * steps) if number < 1 else int(number)
