"""Intervals over runs and prompts, Holm over lines, the front, and the table."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from brushwork.compare import judging, pareto, tables
from brushwork.compare.judging import Number
from brushwork.metrics import Kind, Result
from brushwork.statistics import sign_flip_test


def number(value: float, **changes: object) -> Number:
    usual = Number("clip", "target", value, (value - 0.1, value + 0.1), 8, "higher", "judge", "1")
    return replace(usual, **changes)  # type: ignore[arg-type]


def test_the_interval_over_runs_is_that_of_resampling_runs_and_prompts() -> None:
    values = np.random.default_rng(1).normal(size=(3, 5)) + np.array([[0.0], [1.0], [2.0]])
    rng = np.random.default_rng(7)
    means = [values[np.ix_(rng.integers(0, 3, 3), rng.integers(0, 5, 5))].mean() for _ in range(20_000)]
    np.testing.assert_allclose(judging.over_runs(values), np.percentile(means, [2.5, 97.5]), atol=0.04)


def test_runs_that_agree_leave_only_the_prompts() -> None:
    one = np.random.default_rng(2).normal(size=(1, 6))
    low, high = judging.over_runs(np.repeat(one, 2, axis=0))
    assert low < one.mean() < high
    assert judging.over_runs(np.ones((2, 3))) == (1.0, 1.0)


def result(of: str, value: float, rows: list[dict[str, float]] | None = None) -> Result:
    kind = Kind("clip", "1", "higher")
    return Result(
        **kind._asdict(), prompt_set="target", of=of, value=value, interval=None, n=2, encoder="judge",  # type: ignore[arg-type]
        revision="1", seed=0, details={"prompts": rows or []},
    )  # fmt: skip


def test_several_runs_are_one_line_with_their_mean() -> None:
    runs = [
        [
            result("tuned", np.mean(tuned)),
            result("difference", np.mean(change), [{"tuned": t, "difference": d} for t, d in zip(tuned, change)]),  # noqa: B905
        ]
        for tuned, change in (([0.4, 0.6], [0.1, 0.3]), ([0.5, 0.7], [0.2, 0.4]))
    ]
    (found,) = judging._numbers(runs, "seed", is_reference=False)
    assert found.value == pytest.approx(0.55)
    assert found.difference == pytest.approx(0.25)
    assert found.runs == pytest.approx((0.5, 0.6))
    assert found.p == sign_flip_test([0.15, 0.35]).p
    assert found.interval is not None
    assert found.interval[0] <= 0.55 <= found.interval[1]


def test_holm_is_over_the_lines_of_a_metric() -> None:
    lines = {"base": [number(0.5)], "a": [number(0.6, p=0.01)], "b": [number(0.7, p=0.04)]}
    told = judging._with_holm(lines)
    assert [told[line][0].p_holm for line in ("base", "a", "b")] == [None, 0.02, 0.04]


def test_the_front_has_what_nothing_beats() -> None:
    points = [pareto.Point(*each) for each in (("a", 1, 1), ("b", 2, 3), ("c", 3, 2), ("d", 1, 1), ("e", 0, 0))]
    assert [each.label for each in pareto.front(points)] == ["e", "a", "d", "b"]


def test_the_plot_is_an_svg_of_its_own_with_its_labels_escaped() -> None:
    points = [pareto.Point("a<b", 1, 1, (0.5, 1.5), (0.9, 1.2)), pareto.Point("c", 2, 3, runs=((2, 2.9), (2, 3.1)))]
    svg = str(pareto.plot("Fit & cost", points, x="drift", y="fit"))
    tree = ET.fromstring(svg)  # noqa: S314  (our own)
    texts = [each.text for each in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a<b", "c", "drift", "fit"} <= set(texts)
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == 4
    assert pareto.plot("Fit", points[:1], x="x", y="y") == ""
    assert pareto.plot("Fit", [points[0], pareto.Point("nan", float("nan"), 1)], x="x", y="y") == ""


def test_labels_do_not_cover_one_another() -> None:
    points = [pareto.Point(f"method {place}", 1, 1 + place * 1e-6) for place in range(4)]
    placed = pareto._placed(points, pareto.Scale(0, 2, 0, 500), pareto.Scale(0, 2, 300, 0), set())
    lines = sorted(each["at"][1] for each in placed)
    assert all(b - a >= pareto.LINE for a, b in itertools.pairwise(lines))


def test_the_table_marks_the_best_and_what_was_optimised() -> None:
    lines = {
        "base": [number(0.5), number(0.6, metric="saturation", direction="closer")],
        "lora": [number(0.7, caveat="optimised"), number(0.2, metric="saturation", direction="closer")],
    }
    table = tables.quality(lines, {"saturation": 0.1})
    assert table.columns == ("CLIP-T", "saturation")
    assert [[cell.best for cell in cells] for _, cells in table.rows] == [[False, False], [True, True]]
    assert table.markdown().splitlines() == [
        "|  | CLIP-T | saturation |",
        "|---|---|---|",
        "| base | 0.500 (0.400 to 0.600) | 0.600 (0.500 to 0.700) |",
        "| lora | **0.700\N{DAGGER}** (0.600 to 0.800) | **0.200** (0.100 to 0.300) |",
    ]
    assert "0.112" not in table.text()
    assert table.remarks == ("The training pictures themselves: saturation 0.100.",)


def test_equal_values_have_no_best() -> None:
    table = tables.quality({"base": [number(0.5)], "other": [number(0.5)]}, {})
    assert not any(cell.best for _, cells in table.rows for cell in cells)
