"""KID and CMMD equal what is computed by hand and by every pair in turn."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.errors import UserError
from brushwork.formulas import arrays
from brushwork.metrics import cmmd, kernel_distance

RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(13, 5)), RNG.normal(size=(9, 5)) + 0.4


def test_kid_by_hand() -> None:
    # k(0,1) = 1, k(2,3) = 7^3; between: 1, 1, 3^3, 4^3.
    assert kernel_distance([[0.0], [1.0]], [[2.0], [3.0]]) == 1 + 343 - 2 * 93 / 4


def test_kid_by_every_pair() -> None:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 5 + 1) ** 3)

    own = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (X, Y)]
    across = np.mean([k(a, b) for a in X for b in Y])
    assert kernel_distance(X, Y) == pytest.approx(sum(own) - 2 * across, rel=1e-12)


def test_kid_is_unbiased_and_so_below_zero_about_half_of_the_time() -> None:
    values = [kernel_distance(RNG.normal(size=(20, 4)), RNG.normal(size=(25, 4))) for _ in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


def test_cmmd_by_hand() -> None:
    assert cmmd([[0.0]], [[1.0]]) == pytest.approx(2000 * (1 - np.exp(-1 / 200)), rel=1e-12)
    assert cmmd([[0.0], [0.0]], [[0.0], [2.0]], sigma=1.0) == pytest.approx(500 * (1 - np.exp(-2)), rel=1e-12)


def test_cmmd_by_every_pair_is_the_biased_estimate() -> None:
    def mean(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.mean([np.exp(-((a - b) ** 2).sum() / (2 * 1.5**2)) for a in p for b in q]))

    expected = 1000 * (mean(X, X) + mean(Y, Y) - 2 * mean(X, Y))
    assert cmmd(X, Y, sigma=1.5) == pytest.approx(expected, rel=1e-11)


def test_cmmd_of_equal_sets_is_exactly_zero_and_never_negative() -> None:
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert cmmd(unit, unit.copy()) == 0.0
    assert 0 <= cmmd(unit, RNG.permutation(unit)) < 1e-12


def test_cmmd_keeps_its_digits_far_from_the_origin() -> None:
    assert cmmd(X + 1e6, Y + 1e6, sigma=2.0) == pytest.approx(cmmd(X, Y, sigma=2.0), rel=1e-6)


@pytest.mark.parametrize("distance", [kernel_distance, cmmd])
def test_order_sides_and_blocks_do_not_matter(distance: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(distance)
    value = distance(X, Y)
    assert distance(Y, X) == pytest.approx(value, rel=1e-12)
    assert distance(RNG.permutation(X), RNG.permutation(Y)) == pytest.approx(value, rel=1e-12)
    monkeypatch.setattr(arrays, "AT_ONCE", 20)
    assert distance(X, Y) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("distance", [kernel_distance, cmmd])
def test_a_shifted_set_is_further_away_the_further_it_is_shifted(distance: object) -> None:
    assert callable(distance)
    values = [distance(X, X + shift) for shift in (0.5, 1.0, 2.0)]
    assert values == sorted(values)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="y: this needs at least 2 rows"):
        kernel_distance(X, Y[:1])
    with pytest.raises(UserError, match="sigma is the width"):
        cmmd(X, Y, sigma=0)
    with pytest.raises(UserError, match="of width 5 and y of 4"):
        cmmd(X, Y[:, :4])
