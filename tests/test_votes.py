"""Strengths, agreement and numbers of votes agree with scipy, with published tables and with counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from brushwork.errors import UserError
from brushwork.statistics import (
    Votes,
    bradley_terry,
    fleiss_kappa,
    is_connected,
    rank,
    votes_needed,
    votes_still_needed,
)

RNG = np.random.default_rng(8)


def by_iteration(wins: np.ndarray, rounds: int = 20_000) -> np.ndarray:
    """Zermelo's iteration p_i <- W_i / sum_j n_ij / (p_i + p_j), slow and sure (Hunter 2004)."""
    games, p = wins + wins.T, np.full(len(wins), 1 / len(wins))
    for _ in range(rounds):
        p = wins.sum(axis=1) / (games / (p[:, None] + p[None])).sum(axis=1)
        p /= p.sum()
    return p


def table(items: int, most: int) -> np.ndarray:
    wins = RNG.integers(0, most, (items, items)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


def test_two_items_share_as_they_won() -> None:
    np.testing.assert_allclose(bradley_terry([[0, 3], [1, 0]]), [0.75, 0.25], rtol=1e-12)


@pytest.mark.parametrize("items", [3, 6])
def test_strengths_equal_the_classical_iteration(items: int) -> None:
    wins = table(items, 8) + 0.5 - 0.5 * np.eye(items)  # with ties
    strengths = bradley_terry(wins)
    np.testing.assert_allclose(strengths, by_iteration(wins), atol=1e-10)
    assert strengths.sum() == pytest.approx(1, abs=1e-15)


def test_no_other_strengths_are_more_likely() -> None:
    wins = table(5, 6) + 1 - np.eye(5)

    def loss(theta: np.ndarray) -> float:
        return float((wins * np.logaddexp(0, theta[None] - theta[:, None])).sum())

    best = scipy.optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8})
    ours = np.log(bradley_terry(wins))
    np.testing.assert_allclose(ours - ours.mean(), best.x - best.x.mean(), atol=1e-5)


def test_known_strengths_are_found_again() -> None:
    """Wins in exactly the proportions that the model gives have the model's strengths as their likeliest."""
    true = np.array([0.6, 0.25, 0.1, 0.04, 0.01])
    wins = 1000 * true[:, None] / (true[:, None] + true[None])
    np.fill_diagonal(wins, 0)
    np.testing.assert_allclose(bradley_terry(wins), true, rtol=1e-9)


def test_very_lopsided_and_thinly_connected_votes_converge() -> None:
    chain = np.zeros((12, 12))
    chain[range(11), range(1, 12)] = 50
    chain[range(1, 12), range(11)] = 1
    logs = np.log(bradley_terry(chain))
    np.testing.assert_allclose(np.diff(logs), -math.log(50), rtol=1e-8)


def test_an_item_that_never_lost_gets_half_wins_added_and_stays_finite() -> None:
    assert not is_connected([[0, 5], [0, 0]])
    np.testing.assert_allclose(bradley_terry([[0, 5], [0, 0]]), [5.5 / 6, 0.5 / 6], rtol=1e-12)
    assert is_connected([[0, 5], [1, 0]])
    assert is_connected([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert not is_connected([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


def test_nothing_voted_and_all_even_leave_all_equal() -> None:
    np.testing.assert_allclose(bradley_terry(np.zeros((3, 3))), 1 / 3, rtol=1e-12)
    np.testing.assert_allclose(bradley_terry(4 * (1 - np.eye(4))), 1 / 4, rtol=1e-12)
    assert bradley_terry([[0.0]]).tolist() == [1.0]


def test_the_order_of_the_items_does_not_matter() -> None:
    wins, order = table(6, 9), RNG.permutation(6)
    np.testing.assert_allclose(bradley_terry(wins[np.ix_(order, order)]), bradley_terry(wins)[order], rtol=1e-7)


@pytest.mark.parametrize("bad", [[[0, 1]], [[1, 1], [1, 0]], [[0, -1], [1, 0]], [[0, math.nan], [1, 0]], [1, 2]])
def test_what_is_no_table_of_wins_is_refused(bad: list[object]) -> None:
    with pytest.raises(UserError, match="wins"):
        bradley_terry(bad)  # type: ignore[arg-type]


def simulated(raters: int, prompts: int, share: float) -> list[tuple[object, object, int, int, float]]:
    """Return votes on items 0 and 1, sides alternating, of which item 1 wins ``share``."""
    rows: list[tuple[object, object, int, int, float]] = []
    for rater in range(raters):
        for prompt in range(prompts):
            one_wins, swapped = RNG.random() < share, (rater + prompt) % 2
            rows.append((f"r{rater}", f"p{prompt}", swapped, 1 - swapped, float(one_wins == bool(swapped))))
    return rows


def test_a_ranking_counts_votes_whatever_side_they_were_shown_on() -> None:
    votes = Votes.of([("a", "x", 0, 1, 1), ("a", "y", 1, 0, 0), ("b", "x", 0, 1, 0), ("b", "y", 0, 1, 0.5)])
    ranking = rank(votes, ("base", "tuned"), draws=20)
    assert ranking.wins.tolist() == [[0, 2.5], [1.5, 0]]
    assert ranking.strengths == pytest.approx([0.625, 0.375])
    assert not ranking.regularised


def test_four_hundred_points_are_odds_of_ten_to_one() -> None:
    ranking = rank(Votes.of([("a", i, 0, 1, float(i > 0)) for i in range(11)]), ("x", "y"), draws=5)
    assert ranking.points[0] - ranking.points[1] == pytest.approx(400)
    assert ranking.points.mean() == pytest.approx(1000)


def test_intervals_hold_the_truth_and_are_wider_than_those_of_independent_votes() -> None:
    votes = simulated(5, 30, 0.7)
    ranking = rank(Votes.of(votes), ("base", "tuned"), draws=200)
    assert ranking.strengths_interval is not None
    low, high = ranking.strengths_interval[1]
    assert low < 0.7 < high
    independent = rank(Votes.of([(0, i, a, b, s) for i, (_, _, a, b, s) in enumerate(votes)]), ("b", "t"), draws=200)
    assert independent.strengths_interval is not None
    assert high - low > np.diff(independent.strengths_interval[1])[0]


def test_raters_who_all_agree_with_themselves_alone_widen_the_interval() -> None:
    # Each rater always prefers one side: 8 raters are 8 witnesses, not 160.
    votes = [(rater, prompt, 0, 1, float(rater < 5)) for rater in range(8) for prompt in range(20)]
    ranking = rank(Votes.of(votes), ("base", "tuned"), draws=200)
    assert ranking.strengths_interval is not None
    assert np.diff(ranking.strengths_interval[0])[0] > 0.4


def test_one_rater_with_one_prompt_has_no_interval_and_the_seed_decides_the_rest() -> None:
    assert rank(Votes.of([("a", "x", 0, 1, 1)]), ("b", "t")).strengths_interval is None
    votes = Votes.of(simulated(3, 10, 0.6))
    intervals = [rank(votes, ("b", "t"), seed=seed, draws=50).points_interval for seed in (1, 1, 2)]
    np.testing.assert_array_equal(intervals[0], intervals[1])  # type: ignore[arg-type]
    assert not np.array_equal(intervals[0], intervals[2])  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [[], [("a", "x", 0, 0, 1)], [("a", "x", 0, 1, 2)], [("a", "x", -1, 1, 1)]])
def test_what_is_no_vote_is_refused(bad: list[tuple[object, object, int, int, float]]) -> None:
    with pytest.raises(UserError, match="vote"):
        Votes.of(bad)


def test_a_vote_for_something_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="names item 2, but there are only 2"):
        rank(Votes.of([("a", "x", 0, 2, 1)]), ("b", "t"))


FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
"""The worked example that textbooks and encyclopaedias use: 14 raters, 10 subjects, 5 categories, kappa 0.210."""


def test_kappa_of_the_textbooks_example() -> None:
    assert fleiss_kappa(FLEISS) == pytest.approx(0.210, abs=5e-4)


def test_kappa_of_full_agreement_of_none_and_of_nothing_to_agree_on() -> None:
    assert fleiss_kappa([[3, 0], [0, 3], [3, 0]]) == 1.0
    assert fleiss_kappa([[1, 1], [1, 1]]) == -1.0
    assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))
    by_chance = RNG.multinomial(6, [0.5, 0.3, 0.2], 3000)
    assert fleiss_kappa(by_chance) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("bad", [[[1, 1], [2, 1]], [[1, 0], [0, 1]], [[1.5, 1.5]], [[-1, 3]], [[math.nan, 1]], [1, 2]])
def test_what_is_no_table_of_counts_is_refused(bad: list[object]) -> None:
    with pytest.raises(UserError, match="table"):
        fleiss_kappa(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "votes"), [(0.65, 85), (0.60, 194), (0.55, 783), (0.35, 85)])
def test_votes_needed_are_the_published_ones(share: float, votes: int) -> None:
    assert votes_needed(share) == votes


def test_that_many_votes_have_about_the_power_that_was_asked_for() -> None:
    n = votes_needed(0.65)
    wins = RNG.binomial(n, 0.65, 4000)
    significant = [scipy.stats.binomtest(int(k), n).pvalue < 0.05 for k in np.unique(wins)]
    share = dict(zip(np.unique(wins).tolist(), significant, strict=True))
    assert 0.72 < np.mean([share[k] for k in wins.tolist()]) < 0.86


def test_votes_still_needed_count_those_that_are_there() -> None:
    assert votes_still_needed(10, 10) is None
    assert votes_still_needed(0, 0, 4) is None
    assert votes_still_needed(12, 6) == votes_needed(13 / 20) - 18
    few, many = votes_still_needed(3, 1), votes_still_needed(30, 10)
    assert few is not None
    assert many == 0
    assert few > 0
    assert votes_still_needed(6, 4, ties=20) == votes_needed(17 / 32) - 30
    with pytest.raises(UserError, match="there must be votes"):
        votes_still_needed(0, 0)
    with pytest.raises(UserError, match="one half"):
        votes_needed(0.5)
    with pytest.raises(UserError, match="power must lie"):
        votes_needed(0.6, power=1.0)
