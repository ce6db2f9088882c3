"""Saturation is read against the base's and against the training pictures' own."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.metrics import Drawn, find
from brushwork.metrics.saturation import measure


def colours(*saturations: float) -> np.ndarray:
    return np.array([[s, 1.0] for s in saturations], np.float32)


def test_half_the_saturation_is_a_ratio_of_one_half() -> None:
    base, tuned = np.stack([colours(0.8, 0.6), colours(0.4, 0.2)]), np.stack([colours(0.4, 0.3), colours(0.2, 0.1)])
    results = measure(Drawn(("a", "b"), "target", base, tuned, None, colours(0.1, 0.2, 0.3), "colour", "1"))
    difference, data = find(results, "saturation", "difference"), find(results, "saturation", "data")
    assert difference is not None
    assert data is not None
    assert difference.value == pytest.approx(-0.25)
    assert difference.details["ratio"] == pytest.approx(0.5)
    assert (data.value, data.n) == (pytest.approx(0.2), 3)
    assert data.interval is not None
    assert data.interval[0] < 0.2 < data.interval[1]


def test_a_grey_base_has_no_ratio() -> None:
    grey = np.zeros((2, 2, 2), np.float32)
    results = measure(Drawn(("a", "b"), "target", grey, grey, None, None, "colour", "1"))
    difference = find(results, "saturation", "difference")
    assert difference is not None
    assert difference.details["ratio"] is None
    assert find(results, "saturation", "data") is None
