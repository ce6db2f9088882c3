"""What one gives up for what: a scatter plot of two numbers, with those that nothing beats in both.

    svg = plot("Fit against forgetting", points, x="drift", y="fit")

A point is on the front when no other is at least as good in both and better in one; x is better to the left, y upwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from brushwork.charts import Scale, tick_label, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

ASSETS = Path(__file__).parent.parent / "assets" / "compare"
WIDTH, HEIGHT = 560, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 18, 48
LETTER = 6.4
"""About so many pixels a letter."""
LINE = 14


@dataclass(frozen=True)
class Point:
    """One line of the table: its two numbers, their intervals, and those of each training run."""

    label: str
    x: float
    y: float
    across: tuple[float, float] | None = None
    up: tuple[float, float] | None = None
    runs: tuple[tuple[float, float], ...] = ()


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that nothing beats, from left to right.

    >>> [each.label for each in front([Point("a", 1, 1), Point("b", 2, 3), Point("c", 3, 2)])]
    ['a', 'b']
    """
    best = [
        point
        for point in points
        if not any(
            other.x <= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y) for other in points
        )
    ]
    return sorted(best, key=lambda each: (each.x, each.y))


def plot(title: str, points: Sequence[Point], *, x: str, y: str) -> Markup:
    """Return the plot as an SVG that stands on its own; empty with fewer than two points."""
    points = [each for each in points if math.isfinite(each.x) and math.isfinite(each.y)]
    if len(points) < 2:  # noqa: PLR2004  (one point has nothing to be compared with)
        return Markup()
    across = Scale(*_range(points, "x", "across"), LEFT, WIDTH - RIGHT)
    up = Scale(*_range(points, "y", "up"), HEIGHT - BOTTOM, TOP)
    best = front(points)
    context: dict[str, Any] = {
        "title": title,
        "spoken": f"{title}: not beaten in both are {', '.join(each.label for each in best)}.",
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "x": x,
        "y": y,
        "x_ticks": [(across(value), tick_label(value)) for value in ticks(across.low, across.high, 6)],
        "y_ticks": [(up(value), tick_label(value)) for value in ticks(up.low, up.high, 5)],
        "front": " ".join(f"{across(each.x):.1f},{up(each.y):.1f}" for each in best),
        "points": _placed(points, across, up, {each.label for each in best}),
    }
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
    return Markup(environment.get_template("pareto.svg.jinja").render(context))  # noqa: S704  (escaped by the template)


def _range(points: Sequence[Point], axis: str, interval: str) -> tuple[float, float]:
    values = [getattr(each, axis) for each in points]
    values += [end for each in points for end in getattr(each, interval) or ()]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _placed(points: Sequence[Point], across: Scale, up: Scale, best: set[str]) -> list[dict[str, Any]]:
    """Return every point in pixels, its label moved up or down until it covers no other."""
    taken: list[tuple[float, float, float]] = []
    placed = []
    for each in sorted(points, key=lambda point: -point.y):
        left, top = across(each.x), up(each.y)
        width = LETTER * len(each.label)
        outside = left + 9 + width > WIDTH - RIGHT
        start = left - 9 - width if outside else left + 9
        line = top + 4
        while any(abs(line - other) < LINE and start < end and begin < start + width for begin, end, other in taken):
            line += LINE
        taken.append((start, start + width, line))
        placed.append(
            {
                "label": each.label,
                "best": each.label in best,
                "x": left,
                "y": top,
                "at": (start, line),
                "across": [across(end) for end in each.across] if each.across else None,
                "up": [up(end) for end in each.up] if each.up else None,
                "runs": [(across(one), up(other)) for one, other in each.runs],
            }
        )
    return placed
