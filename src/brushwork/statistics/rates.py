"""Rates and counts: Wilson's interval, McNemar's test, Holm's correction, and how many votes a claim takes."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from brushwork.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a rate of k in n (without continuity correction).

    Raises:
        UserError: k is not in 0..n, or the confidence not between 0 and 1.
    """
    if not 0 <= k <= n:
        message = f"k must lie between 0 and n, but k is {k} and n is {n}."
        raise UserError(message)
    _between("confidence", confidence)
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    rate = k / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def mcnemar_test(b: int, c: int) -> float:
    """Return the exact two-sided p of McNemar's test: b pairs changed one way, c the other.

    Raises:
        UserError: A count is negative.
    """
    if min(b, c) < 0:
        message = f"b and c are counts, but b is {b} and c is {c}."
        raise UserError(message)
    n = int(b) + int(c)
    # Whole numbers throughout: 2^n is no float beyond n = 1023.
    tail = term = 1
    for i in range(min(int(b), int(c))):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values, in the order given; p_values may be empty.

    Raises:
        UserError: Something that is no p-value.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        message = f"p_values: needs a row of numbers between 0 and 1, but got {p.tolist()}."
        raise UserError(message)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def votes_needed(share: float, *, power: float = 0.8, level: float = 0.05) -> int:
    """Return how many independent votes show that a preference of ``share`` is not one half.

    The normal approximation of the two-sided test of one proportion,
    n = ((z_(1 - level/2) / 2 + z_power sqrt(share (1 - share))) / (share - 1/2))^2.

    Raises:
        UserError: The share is not between 0 and 1, or is one half, which no number of votes can tell from itself.
    """
    for name, value in (("share", share), ("power", power), ("level", level)):
        _between(name, value)
    if share == 0.5:  # noqa: PLR2004  (no preference)
        message = "share is one half: no number of votes shows a preference that is not there."
        raise UserError(message)
    normal = NormalDist()
    spread = normal.inv_cdf(1 - level / 2) / 2 + normal.inv_cdf(power) * math.sqrt(share * (1 - share))
    return math.ceil((spread / (share - 0.5)) ** 2)


def votes_still_needed(
    wins: float, losses: float, ties: float = 0, *, power: float = 0.8, level: float = 0.05
) -> int | None:
    """Return how many votes more it takes if the preference is as large as it looks so far; None when it is even.

    Ties are half a vote each. An estimate to plan with, from few votes a very rough one: to go on voting until a test
    is significant makes the test worthless, so fix the number beforehand. Votes of one rater or one prompt are no
    independent witnesses either; with few of those it takes more.

    The preference is taken a little more even than it looks, as if each side had one vote more: 3 of 3 is no evidence
    that it is always so.

    Raises:
        UserError: A count is negative, or there are no votes.
    """
    votes = wins + losses + ties
    if min(wins, losses, ties) < 0 or votes == 0:
        message = f"there must be votes to go by, but there are {wins} wins, {losses} losses and {ties} ties."
        raise UserError(message)
    share = (wins + ties / 2 + 1) / (votes + 2)
    if wins == losses:
        return None
    return max(0, math.ceil(votes_needed(share, power=power, level=level) - votes))


def _between(name: str, value: float) -> None:
    if not 0 < value < 1:
        message = f"{name} must lie between 0 and 1, but is {value}."
        raise UserError(message)
