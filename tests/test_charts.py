"""Charts: round ticks, nothing lost, nothing that is not a number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from brushwork.charts import MOST_POINTS, Series, dumbbell, line_chart, smooth, thin, tick_label, ticks

if TYPE_CHECKING:
    from markupsafe import Markup


def parsed(svg: Markup) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  (our own)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 300, [0, 100, 200, 300]), (0.2, 0.4, [0.2, 0.25, 0.3, 0.35, 0.4]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round_and_lie_in_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("high", [1e-9, 0.003, 1, 7, 12345, 3e8])
def test_there_are_a_few_ticks_at_every_scale(high: float) -> None:
    assert 3 <= len(ticks(0, high)) <= 11


def test_a_chart_is_well_formed_and_names_its_axes_and_series() -> None:
    points = [(index, 1e-4 * index) for index in range(20)]
    svg = parsed(line_chart("Rate <1>", [Series("a & b", points), Series("c", points, "dots")], x="step", y="rate"))
    text = " ".join(svg.itertext())
    for word in ("Rate <1>", "a & b", "step", "rate (\N{MULTIPLICATION SIGN}10⁻³)"):
        assert word in text
    assert svg.attrib["role"] == "img"


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(1, math.inf)]])
def test_without_numbers_there_is_no_chart(points: list[tuple[float, float]]) -> None:
    assert line_chart("x", [Series("a", points)], x="x", y="y") == ""


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.0), (2, 0.0)], [(1, -3.0), (2, 5.0)], [(1, 1e-30), (2, 1e30)]])
def test_every_place_lies_in_the_picture(points: list[tuple[float, float]]) -> None:
    svg = parsed(line_chart("x", [Series("a", points)], x="x", y="y"))
    for line in svg.iter("polyline"):
        for pair in line.attrib["points"].split():
            left, top = map(float, pair.split(","))
            assert 0 <= left <= 520
            assert 0 <= top <= 270


def test_thinning_keeps_the_extremes() -> None:
    points = [(index, 100.0 if index == 7777 else math.sin(index)) for index in range(20_000)]
    kept = thin(points)
    assert len(kept) <= MOST_POINTS
    assert (7777, 100.0) in kept
    assert [place for place, _ in kept] == sorted(place for place, _ in kept)


def test_smoothing_keeps_a_line_a_line() -> None:
    line = [(index, 2.0 * index) for index in range(100)]
    for (_, value), (_, smoothed) in zip(line, smooth(line), strict=True):
        assert smoothed == pytest.approx(value)


def test_ticks_have_a_real_minus_sign_and_no_needless_zeros() -> None:
    assert [tick_label(value) for value in (-0.5, 0, 2.50, 1200)] == ["\N{MINUS SIGN}0.5", "0", "2.5", "1200"]


def test_a_dumbbell_puts_base_and_tuned_on_the_common_scale() -> None:
    svg = parsed(dumbbell(0.0, 1.0, 0.0, 2.0))
    places = {each.attrib["class"]: float(each.attrib["cx"]) for each in svg.iter("circle")}
    assert places == {"base": 6.0, "tuned": 80.0}
