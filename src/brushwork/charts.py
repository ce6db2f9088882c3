"""Small line charts and dot plots as inline SVG: axes with units, ticks, a legend, and a text for screen readers.

    svg = line_chart("Training loss", [Series("per step", points, "faint")], x="step", y="loss")

Colours come from the page's CSS classes, so the charts follow its light and dark form and its print form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

Point = tuple[float, float]

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 42
MOST_POINTS = 500
"""More than the chart is wide adds bytes and no detail."""

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Series:
    """Points of one colour; ``faint`` is drawn thin behind the others, ``dots`` has a mark at each point."""

    name: str
    points: Sequence[Point]
    form: Literal["line", "faint", "dots"] = "line"


@dataclass(frozen=True)
class Scale:
    """Maps values from ``low`` .. ``high`` to pixels from ``start`` .. ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def line_chart(
    title: str, series: Sequence[Series], *, x: str, y: str, from_zero: bool = False, mark: float | None = None
) -> Markup:
    """Draw series over a common axis; values that are not finite are left out.

    Args:
        title: Stands above the chart.
        series: Drawn in this order.
        x: What the horizontal axis shows, with its unit.
        y: What the vertical axis shows, with its unit.
        from_zero: Begin the vertical axis at zero even when that is far below.
        mark: A place on the horizontal axis that a line stands at.
    """
    series = [Series(each.name, thin(finite(each.points)), each.form) for each in series]
    series = [each for each in series if each.points]
    if not series:
        return Markup()
    across = Scale(*_padded([place for each in series for place, _ in each.points]), LEFT, WIDTH - RIGHT)
    power = _power(max(abs(value) for each in series for _, value in each.points))
    low, high = _heights(series)
    up = Scale(0.0 if from_zero else low, high, HEIGHT - BOTTOM, TOP)
    label = f"{y} (\N{MULTIPLICATION SIGN}10{str(power).translate(SUPERSCRIPT)})" if power else y
    parts = [*_axes(across, up, x, power), _element("text", "unit", label, x=LEFT, y=16)]
    if mark is not None:
        place = across(mark)
        parts.append(_element("line", "best", x1=place, x2=place, y1=TOP, y2=HEIGHT - BOTTOM))
    parts += [element for each in series for element in _drawn(each, across, up)]
    if len(series) > 1:
        parts += _legend(series)
    spoken = _element("title", "", _spoken(title, series, x))
    size = f"0 0 {WIDTH} {HEIGHT}"
    return _element("svg", "chart", Markup().join([spoken, *parts]), viewBox=size, role="img")


def _element(name: str, kind: str, inside: str = "", **attributes: float | str) -> Markup:
    """Return an SVG element of a CSS class, with escaped attributes; numbers to a tenth of a pixel."""
    written = {key.replace("_", "-"): value for key, value in ({"class": kind} | attributes).items() if value != ""}
    texts = [
        Markup(' {}="{}"').format(key, f"{value:.1f}" if isinstance(value, float) else value)
        for key, value in written.items()
    ]
    return Markup("<{}{}>{}</{}>").format(name, Markup().join(texts), inside, name)


def _heights(series: Sequence[Series]) -> tuple[float, float]:
    """Return the vertical range: all of the main series, and of the faint ones all but the highest fiftieth."""
    values = [value for each in series if each.form != "faint" for _, value in each.points]
    for each in series:
        ordered = sorted(value for _, value in each.points)
        if each.form == "faint":
            values += ordered[: max(1, math.ceil(0.98 * len(ordered)))]
    low, high = _padded(values)
    # From zero where zero is near: a loss that halves should look so.
    return (0.0, high) if 0 <= low < 0.6 * high else (low, high)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        return low - margin, high + margin
    return low, high


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers in a range, about so many.

    >>> ticks(0, 300)
    [0.0, 100.0, 200.0, 300.0]
    """
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if raw <= unit * factor * 1.000001)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _power(largest: float) -> int:
    """Return the power of ten that is taken out of the labels; 0 for handy numbers."""
    return math.floor(math.log10(largest)) if largest and not 0.01 <= largest < 10_000 else 0  # noqa: PLR2004  (four digits fit)


def tick_label(value: float, power: int = 0) -> str:
    """Write a tick: no trailing zeros, a real minus sign."""
    return f"{value / 10.0**power:.4g}".replace("-", "\N{MINUS SIGN}")


def _axes(across: Scale, up: Scale, x: str, power: int) -> list[Markup]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(up.low, up.high, 4):
        place = up(value)
        parts.append(_element("line", "grid", x1=LEFT, x2=right, y1=place, y2=place))
        parts.append(_element("text", "tick y", tick_label(value, power), x=LEFT - 8, y=place + 4))
    for value in ticks(across.low, across.high, 5):
        place = across(value)
        parts.append(_element("line", "mark", x1=place, x2=place, y1=bottom, y2=bottom + 4))
        parts.append(_element("text", "tick x", tick_label(value), x=place, y=bottom + 17))
    axis = _element("line", "axis", x1=LEFT, x2=right, y1=bottom, y2=bottom)
    return [*parts, axis, _element("text", "unit x", x, x=(LEFT + right) / 2, y=HEIGHT - 5)]


def _drawn(series: Series, across: Scale, up: Scale) -> list[Markup]:
    # What lies above the range (an outlier of a faint series) is drawn at its edge.
    places = [(across(place), max(float(TOP), up(value))) for place, value in series.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    line = _element("polyline", series.form, points=path)
    marked = series.form == "dots" or len(places) == 1
    return [line, *(_element("circle", series.form, cx=left, cy=top, r=3.2) for left, top in places if marked)]


def _legend(series: Sequence[Series]) -> list[Markup]:
    """Name the series at the upper right, from the right edge leftwards."""
    parts, right = [], float(WIDTH - RIGHT)
    for each in reversed(series):
        left = right - 6.2 * len(each.name) - 26
        parts.append(_element("line", each.form, x1=left, x2=left + 16, y1=12, y2=12))
        parts.append(_element("text", "key", each.name, x=left + 21, y=16))
        right = left - 10
    return parts


def _spoken(title: str, series: Sequence[Series], x: str) -> str:
    told = [
        f"{each.name} from {each.points[0][1]:.3g} at {x} {each.points[0][0]:g} to {each.points[-1][1]:.3g} "
        f"at {each.points[-1][0]:g}"
        for each in series
    ]
    return f"{title}: {'; '.join(told)}."


def dumbbell(base: float, tuned: float, low: float, high: float) -> Markup:
    """Draw base and tuned as two dots on a common scale, to stand in a row of a table."""
    place = Scale(low, high, 6.0, 154.0)
    way = "up" if tuned > base else "down"
    parts = [
        _element("line", "rail", x1=6, x2=154, y1=9, y2=9),
        _element("line", way, x1=place(base), x2=place(tuned), y1=9, y2=9),
        _element("circle", "base", cx=place(base), cy=9, r=4),
        _element("circle", "tuned", cx=place(tuned), cy=9, r=4),
    ]
    return _element("svg", "dumbbell", Markup().join(parts), viewBox="0 0 160 18", aria_hidden="true")


def smooth(points: Sequence[Point], share: float = 0.06) -> list[Point]:
    """Return the running mean over a centred window of a share of the points; narrower at the ends."""
    points = finite(points)
    half = max(1, round(share * len(points) / 2))
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    smoothed = []
    for index, (place, _) in enumerate(points):
        reach = min(half, index, len(points) - 1 - index)
        first, last = index - reach, index + reach + 1
        smoothed.append((place, (sums[last] - sums[first]) / (last - first)))
    return smoothed


def finite(points: Sequence[Point]) -> list[Point]:
    """Leave out what is not a number."""
    return [point for point in points if math.isfinite(point[1])]


def thin(points: Sequence[Point]) -> list[Point]:
    """Return at most ``MOST_POINTS`` points: of each stretch the lowest and the highest, in order."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / MOST_POINTS)
    kept = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        kept += sorted({min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])})
    return kept


__all__ = ["Series", "dumbbell", "line_chart", "smooth", "thin", "tick_label", "ticks"]
