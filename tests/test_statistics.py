"""The statistics agree with scipy and with closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats as scipy_stats

from brushwork.errors import UserError
from brushwork.statistics import cluster_bootstrap, holm, mcnemar_test, sign_flip_test, smallest_p, wilson_interval

DIFFERENCES = np.random.default_rng(3).normal(0.3, 1.0, 11)


def test_sign_flip_equals_scipys_exact_permutation_test() -> None:
    reference = scipy_stats.permutation_test((DIFFERENCES,), np.sum, permutation_type="samples", n_resamples=np.inf)
    outcome = sign_flip_test(DIFFERENCES)
    assert outcome.p == pytest.approx(reference.pvalue, abs=1e-15)
    assert outcome.exact
    assert outcome.n == 11


@pytest.mark.parametrize("n", [1, 2, 5, 6, 15, 20])
def test_differences_of_one_sign_reach_the_smallest_p(n: int) -> None:
    outcome = sign_flip_test(np.linspace(0.1, 0.9, n))
    assert outcome.p == outcome.smallest_p == 2.0 ** (1 - n)


def test_equal_differences_are_ties_and_not_evidence_by_rounding() -> None:
    # +0.1 three times and -0.1 once: of the 16 sums only the 2 of equal signs lie further out, and 8 tie.
    assert sign_flip_test([0.1, 0.1, 0.1, -0.1]).p == 10 / 16
    assert sign_flip_test([0.1, 0.2, -0.3]).p == 1.0


@pytest.mark.parametrize("n", [3, 20, 30])
def test_no_difference_gives_p_exactly_one(n: int) -> None:
    assert sign_flip_test(np.zeros(n)).p == 1.0


def test_the_sign_and_the_scale_of_all_differences_do_not_matter() -> None:
    assert sign_flip_test(-1e-6 * DIFFERENCES).p == sign_flip_test(DIFFERENCES).p


def test_above_twenty_prompts_monte_carlo_agrees_with_scipys_wilcoxon_like_null() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 40)
    outcome = sign_flip_test(values)
    # Under sign flips the sum is nearly normal with variance sum(d^2).
    normal = 2 * scipy_stats.norm.sf(abs(values.sum()) / math.sqrt((values**2).sum()))
    assert not outcome.exact
    assert outcome.smallest_p == 1 / 100_001
    assert outcome.p == pytest.approx(normal, abs=0.01)
    assert sign_flip_test(values) == outcome


def test_monte_carlo_never_reports_zero() -> None:
    assert sign_flip_test(np.ones(60)).p == 1 / 100_001


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_what_is_not_a_number_is_refused(values: list[float]) -> None:
    with pytest.raises(UserError, match="finite"):
        sign_flip_test(values)


def test_cluster_bootstrap_equals_scipys_bootstrap_of_the_prompts_means() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (12, 4)) + rng.normal(0, 1, (12, 1))
    means = values.mean(axis=1)
    reference = scipy_stats.bootstrap((means,), np.mean, method="percentile", n_resamples=20_000, rng=rng)
    mean, low, high = cluster_bootstrap(list(values))
    assert mean == pytest.approx(means.mean(), abs=1e-15)
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval), abs=0.03)


def test_the_interval_of_identical_pictures_is_not_narrowed_by_drawing_more_of_them() -> None:
    one = [[0.27], [0.31], [0.28], [0.33], [0.29]]
    assert cluster_bootstrap([each * 6 for each in one]) == pytest.approx(cluster_bootstrap(one))


def test_prompts_with_different_numbers_of_pictures_count_the_same() -> None:
    assert cluster_bootstrap([[1.0] * 9, [0.0]]).mean == 0.5


def test_the_bootstrap_depends_on_the_seed_alone() -> None:
    values = [[each] for each in DIFFERENCES]
    assert cluster_bootstrap(values, seed=1) == cluster_bootstrap(values, seed=1) != cluster_bootstrap(values, seed=2)


def test_no_difference_has_the_interval_zero_to_zero() -> None:
    assert cluster_bootstrap([[0.0, 0.0]] * 5) == (0.0, 0.0, 0.0)


def test_one_prompt_has_no_interval() -> None:
    interval = cluster_bootstrap([[1.0, 3.0]])
    assert interval.mean == 2.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_the_coverage_of_the_interval_is_about_right() -> None:
    rng = np.random.default_rng(5)
    intervals = [cluster_bootstrap(list(rng.normal(0, 1, (30, 2))), draws=500) for _ in range(200)]
    covered = np.mean([low <= 0 <= high for _, low, high in intervals])
    assert 0.88 <= covered <= 0.98


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 10), (1, 1), (50, 120)])
def test_wilson_equals_scipy(k: int, n: int) -> None:
    reference = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k, n) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_wilson_of_nothing_is_everything_and_of_nonsense_an_error() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(UserError, match="k is 5 and n is 3"):
        wilson_interval(5, 3)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (12, 3), (3, 12), (700, 800)])
def test_mcnemar_equals_the_exact_binomial_test(b: int, c: int) -> None:
    reference = scipy_stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_test(b, c) == pytest.approx(reference, rel=1e-10)


def test_holm_equals_the_textbook_example() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], atol=1e-15)
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).tolist() == []


def test_mcnemar_of_many_thousands_does_not_overflow() -> None:
    assert mcnemar_test(3000, 3000) == 1.0
    assert mcnemar_test(2900, 3100) == pytest.approx(scipy_stats.binomtest(2900, 6000).pvalue, rel=1e-9)


@pytest.mark.parametrize("bad", [[0.1, 1.2], [-0.1], [math.nan], [[0.1]]])
def test_holm_of_what_is_no_p_value_is_refused(bad: list[float]) -> None:
    with pytest.raises(UserError, match="p_values"):
        holm(bad)


@pytest.mark.parametrize("n", [9, 40])
def test_the_order_of_the_prompts_changes_nothing_at_all(n: int) -> None:
    values = np.random.default_rng(2).normal(0.2, 1, n)
    rows = [[each] for each in values]
    assert sign_flip_test(values[::-1]) == sign_flip_test(values)
    assert cluster_bootstrap(rows[::-1]) == cluster_bootstrap(rows)
    assert cluster_bootstrap({f"prompt {place}": row for place, row in enumerate(rows)}) == cluster_bootstrap(rows)


def test_five_prompts_cannot_be_significant() -> None:
    assert [smallest_p(n) for n in (1, 5, 6, 15)] == [1.0, 0.0625, 0.03125, 2**-14]
    assert smallest_p(21) == 1 / 100_001
