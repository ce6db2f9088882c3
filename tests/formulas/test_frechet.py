"""The Frechet distance equals its closed forms, whatever the rank of the covariances."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from brushwork.errors import UserError
from brushwork.formulas import arrays
from brushwork.metrics import frechet_distance, frechet_distance_from_statistics

RNG = np.random.default_rng(0)


def with_moments(n: int, mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Return n rows whose sample mean and covariance (ddof 1) are exactly mean and root^T root."""
    rows = RNG.normal(size=(n, len(root)))
    rows -= rows.mean(axis=0)
    white = rows @ np.linalg.inv(np.linalg.cholesky(rows.T @ rows / (n - 1))).T
    return white @ root + mean


def by_matrix_root(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook way, good for covariances of full rank."""
    c, e = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return float(shift @ shift + np.trace(c + e - 2 * scipy.linalg.sqrtm(c @ e).real))


def test_gaussians_on_the_same_axes_have_the_closed_form() -> None:
    one, other = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.1])
    x = with_moments(40, np.zeros(3), np.diag(one))
    y = with_moments(50, np.array([1.0, -2.0, 0.0]), np.diag(other))
    assert frechet_distance(x, y) == pytest.approx(5 + ((one - other) ** 2).sum(), rel=1e-12)


def test_covariances_divide_by_n_minus_one() -> None:
    # Variances 2 (ddof 1) and 0: the distance is 2; with ddof 0 it would be 1.
    assert frechet_distance([[-1.0], [1.0]], [[0.0], [0.0]]) == pytest.approx(2, rel=1e-14)


def test_turned_gaussians_agree_with_the_matrix_root() -> None:
    x = RNG.normal(size=(300, 16)) @ RNG.normal(size=(16, 16))
    y = RNG.normal(size=(280, 16)) @ RNG.normal(size=(16, 16)) + 0.3
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)
    moments = [part for z in (x, y) for part in (z.mean(axis=0), np.cov(z, rowvar=False))]
    assert frechet_distance_from_statistics(*moments) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_one_dimensional_clouds_in_a_large_space_have_the_closed_form() -> None:
    """Covariances of rank one, a a^T and b b^T: |a|^2 + |b|^2 - 2 |a.b|, where a matrix root loses half its digits."""
    a, b = RNG.normal(size=64), RNG.normal(size=64)
    steps = np.array([-1.0, 0.0, 1.0])  # of variance 1
    expected = a @ a + b @ b - 2 * abs(a @ b)
    assert frechet_distance(np.outer(steps, a), np.outer(steps, b)) == pytest.approx(expected, rel=1e-12)
    zero = np.zeros(64)
    stored = frechet_distance_from_statistics(zero, np.outer(a, a), zero, np.outer(b, b))
    assert stored == pytest.approx(expected, rel=1e-6)


def test_fewer_pictures_than_dimensions_give_what_their_own_subspace_gives() -> None:
    x, y = RNG.normal(size=(12, 100)), RNG.normal(size=(9, 100)) + 0.2
    basis = np.linalg.qr(np.concatenate([x, y]).T)[0]  # (100, 21), in which both lie
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(x @ basis, y @ basis), rel=1e-10)


def test_variances_of_many_sizes_lose_no_digits() -> None:
    turn = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    sigma = 10.0 ** -np.arange(12)
    x, y = with_moments(200, np.zeros(12), sigma[:, None] * turn), with_moments(200, np.zeros(12), turn)
    assert frechet_distance(x, y) == pytest.approx(((sigma - 1) ** 2).sum(), rel=1e-9)


def test_equal_sets_give_exactly_zero_and_reordered_ones_nothing_but_rounding() -> None:
    x = RNG.normal(size=(50, 8)).astype(np.float32)
    assert frechet_distance(x, x.copy()) == 0.0
    assert frechet_distance(x, RNG.permutation(x)) == pytest.approx(0, abs=1e-12)
    mean, covariance = x.mean(axis=0), np.cov(x, rowvar=False)
    assert frechet_distance_from_statistics(mean, covariance, mean.copy(), covariance.copy()) == 0.0


def test_it_is_symmetric_and_blind_to_shifts_and_turns_of_the_whole_space() -> None:
    x, y = RNG.normal(size=(30, 6)), 2 * RNG.normal(size=(40, 6)) + 1
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    value = frechet_distance(x, y)
    assert frechet_distance(y, x) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(x @ turn + 100, y @ turn + 100) == pytest.approx(value, rel=1e-9)


def test_many_rows_are_reduced_in_blocks_to_the_same_value(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = RNG.normal(size=(500, 7)), RNG.normal(size=(400, 7)) @ RNG.normal(size=(7, 7))
    whole = frechet_distance(x, y)
    monkeypatch.setattr(arrays, "AT_ONCE", 7 * 30)
    assert frechet_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_what_cannot_be_measured_is_refused() -> None:
    good = RNG.normal(size=(5, 3))
    for bad, words in [
        (good[:1], "x: this needs at least 2 rows"),
        (good[0], r"x: needs a table \(N, d\)"),
        (np.where(good > 0, np.nan, good), "x: only finite numbers"),
        (good[:, :2], "x has features of width 2 and y of 3"),
        ([["a", "b", "c"]], "x: this is no array of numbers"),
    ]:
        with pytest.raises(UserError, match=words):
            frechet_distance(bad, good)


def test_what_is_no_covariance_is_refused() -> None:
    mean, good = np.zeros(2), np.eye(2)
    for bad, words in [
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "cov2 is not symmetric"),
        (np.diag([1.0, -1.0]), "cov2 has the negative variance -1"),
        (np.eye(3), "the shapes must be"),
    ]:
        with pytest.raises(UserError, match=words):
            frechet_distance_from_statistics(mean, good, mean, bad)
