"""Strengths from votes on pairs: the Bradley-Terry model, with ties, and intervals over raters and prompts.

    bradley_terry([[0, 3], [1, 0]])      # 0.75, 0.25: i beats j with probability p_i / (p_i + p_j)
    rank(votes, ("base", "tuned"), seed=0)

All votes count at once, so their order does not matter, which it does for sequential Elo ratings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas import arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

PSEUDO_WINS = 0.5
"""Added to each ordered pair when some items never lost (or never won) against the rest: without it their strength
would be infinite."""

MIDDLE, PER_LOG = 1000.0, 400 / math.log(10)
"""The scale that people know: 400 points are odds of 10 to 1."""

STEPS, CONVERGED = 200, 1e-12
LEAST_GAIN = 1e-4
"""Share of the promised gain that a step must bring (Armijo)."""


def bradley_terry(wins: ArrayLike) -> NDArray[np.float64]:
    """Return strengths (M,) that sum to 1, of greatest likelihood, from wins (M, M): how often row beat column.

    A tie is half a win for both. Where the votes do not bound every strength (see ``is_connected``), half a win is
    added to each ordered pair of items. Bradley and Terry 1952; found by Newton's method on the logarithms, in which
    the likelihood is concave.

    Raises:
        UserError: Not a square table of counts with an empty diagonal.
    """
    return _strengths(_checked(wins))


def is_connected(wins: ArrayLike) -> bool:
    """Return whether, by chains of wins, every item beats every other: then the votes alone fix all strengths.

    Raises:
        UserError: As ``bradley_terry``.
    """
    return _connected(_checked(wins))


@dataclass(frozen=True, eq=False)
class Votes:
    """V votes on pairs of M items; whole numbers name raters, prompts and items."""

    rater: NDArray[np.int64]
    prompt: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    score: NDArray[np.float64]
    """1 where the first was preferred, 0 where the second, 0.5 for a tie."""

    @staticmethod
    def of(votes: Sequence[tuple[object, object, int, int, float]]) -> Votes:
        """Make it from rows of (rater, prompt, first, second, score); raters and prompts may be any words.

        Raises:
            UserError: No votes, a score other than 0, 0.5 and 1, or an item against itself.
        """
        if not votes:
            message = "There are no votes."
            raise UserError(message)
        names = [list(dict.fromkeys(row[place] for row in votes)) for place in (0, 1)]
        numbers = [{name: number for number, name in enumerate(each)} for each in names]
        rows = np.array([[numbers[0][r], numbers[1][p], one, two] for r, p, one, two, _ in votes], dtype=np.int64)
        score = np.array([row[4] for row in votes], dtype=np.float64)
        if not np.isin(score, (0, 0.5, 1)).all() or (rows[:, 2] == rows[:, 3]).any() or rows[:, 2:].min() < 0:
            message = (
                "A vote is (rater, prompt, first, second, score): two different items, and a score of 0, 0.5 or 1."
            )
            raise UserError(message)
        return Votes(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], score)


@dataclass(frozen=True, eq=False)
class Ranking:
    """M items with their strengths; intervals (M, 2) are None with a single rater and a single prompt."""

    items: tuple[str, ...]
    strengths: NDArray[np.float64]
    strengths_interval: NDArray[np.float64] | None
    points: NDArray[np.float64]
    """1000 + 400 / ln 10 times the logarithm of the strength, centred: 1000 on average."""
    points_interval: NDArray[np.float64] | None
    wins: NDArray[np.float64]
    regularised: bool
    """Whether half wins had to be added, so that strengths are finite."""


def rank(votes: Votes, items: Sequence[str], *, seed: int = 0, draws: int = 1000) -> Ranking:
    """Return the strengths with 95 % intervals from resampling raters and prompts, both with replacement.

    Votes of one rater resemble each other, and so do votes on one prompt. A vote counts as often as its rater and its
    prompt were drawn, multiplied (the pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122), which errs on the wide
    side. With one rater only prompts are drawn, with one prompt only raters.

    Raises:
        UserError: A vote names an item that is not there.
    """
    m = len(items)
    if max(votes.first.max(), votes.second.max()) >= m:
        message = f"A vote names item {max(votes.first.max(), votes.second.max())}, but there are only {m} items."
        raise UserError(message)
    wins = _count(votes, np.ones(len(votes.score)), m)
    strengths = _strengths(wins)
    raters, prompts = int(votes.rater.max()) + 1, int(votes.prompt.max()) + 1
    intervals: list[NDArray[np.float64] | None] = [None, None]
    if max(raters, prompts) > 1:
        rng = np.random.default_rng(seed)
        drawn = np.empty((draws, m))
        for draw in range(draws):
            weight = _times(rng, raters)[votes.rater] * _times(rng, prompts)[votes.prompt]
            drawn[draw] = _strengths(_count(votes, weight, m))
        intervals = [np.percentile(each, [2.5, 97.5], axis=0).T for each in (drawn, points(drawn))]
    return Ranking(tuple(items), strengths, intervals[0], points(strengths), intervals[1], wins, not _connected(wins))


def points(strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return strengths (..., M) on the scale where 400 points are odds of 10 to 1 and the mean is 1000."""
    logs = np.log(strengths)
    scaled: NDArray[np.float64] = MIDDLE + PER_LOG * (logs - logs.mean(axis=-1, keepdims=True))
    return scaled


def _times(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return how often each of ``count`` comes up in a bootstrap sample; always once when there is one."""
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)


def _count(votes: Votes, weight: NDArray[np.float64], m: int) -> NDArray[np.float64]:
    forth: Any = np.bincount(votes.first * m + votes.second, weight * votes.score, m * m)
    back: Any = np.bincount(votes.second * m + votes.first, weight * (1 - votes.score), m * m)
    wins: NDArray[np.float64] = (forth + back).reshape(m, m)
    return wins


def _checked(wins: ArrayLike) -> NDArray[np.float64]:
    table = arrays.table(wins, "wins")
    if table.shape[0] != table.shape[1] or table.min() < 0 or np.diagonal(table).any():
        message = "wins: needs a square table of counts, row against column, with zeros on the diagonal."
        raise UserError(message)
    return table


def _connected(wins: NDArray[np.float64]) -> bool:
    """Return whether the graph of wins is strongly connected: all is reached from item 0, along wins and against."""
    for beats in (wins > 0, wins.T > 0):
        reached = np.zeros(len(wins), bool)
        reached[0] = True
        for _ in range(len(wins)):
            reached = reached | beats[reached].any(axis=0)
        if not reached.all():
            return False
    return True


def _strengths(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    m = len(wins)
    if not _connected(wins):
        wins = wins + PSEUDO_WINS * (1 - np.eye(m))
    games, won = wins + wins.T, wins.sum(axis=1)
    theta = np.zeros(m)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(theta[None] - theta[:, None]))  # of row against column
        gradient = won - (games * chance).sum(axis=1)
        if np.abs(gradient).max() <= CONVERGED * games.sum():
            break
        curvature = games * chance * chance.T
        # Shifting all thetas changes nothing, so the Laplacian is singular along ones; the last term fixes the mean.
        laplacian = np.diag(curvature.sum(axis=1)) - curvature + np.full((m, m), games.sum() / m**2)
        theta = _step(theta, np.linalg.solve(laplacian, gradient), gradient, wins)
        theta -= theta.mean()
    strength = np.exp(theta - theta.max())
    normalised: NDArray[np.float64] = strength / strength.sum()
    return normalised


def _step(
    theta: NDArray[np.float64], step: NDArray[np.float64], gradient: NDArray[np.float64], wins: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Go along a Newton step, halved until the likelihood rises as promised."""
    before, promised, part = _likelihood(theta, wins), float(gradient @ step), 1.0
    while part > CONVERGED and _likelihood(theta + part * step, wins) < before + LEAST_GAIN * part * promised:
        part /= 2
    # Where rounding hides the gain, the full step is the better one: Newton's method ends with those.
    return theta + (part if part > CONVERGED else 1.0) * step


def _likelihood(theta: NDArray[np.float64], wins: NDArray[np.float64]) -> float:
    return -float((wins * np.logaddexp(0, theta[None] - theta[:, None])).sum())
