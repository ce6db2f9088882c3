"""Intervals and tests for small paired samples, where the prompt is the unit; numpy only.

    test = sign_flip_test([0.02, 0.03, -0.01, 0.04, 0.02, 0.05])
    test.p, test.smallest_p                       # 0.0625, 0.03125
    cluster_bootstrap([[0.31, 0.29], [0.25, 0.27]])   # mean, low, high over prompts

Pictures of one prompt resemble each other, so treating all pictures as independent makes intervals too narrow:
whatever speaks about "prompts like these" resamples or flips whole prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brushwork.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

EXACT_UP_TO = 20
"""Prompts up to which every sign pattern is looked at; 2^20 is a million."""

MONTE_CARLO_DRAWS = 100_000

TIE_TOLERANCE = 1e-12
"""Sums that differ by less than this share of the sum of magnitudes are the same sum, added in another order."""


@dataclass(frozen=True, slots=True)
class SignFlip:
    """The outcome of a sign-flip test; ``smallest_p`` is what ``n`` differences of one sign would have given."""

    p: float
    smallest_p: float
    exact: bool
    n: int


class Interval(NamedTuple):
    """A mean and its 95 % interval; without at least two prompts there is no interval and the ends are NaN."""

    mean: float
    low: float
    high: float


def sign_flip_test(differences: ArrayLike, *, seed: int = 0) -> SignFlip:
    """Test two-sidedly whether paired differences are symmetric about zero.

    Exact over all 2^n sign patterns up to 20 differences, Monte Carlo with p = (1 + #) / (1 + draws) above.
    """
    values = _finite_vector(differences, "differences")
    n = len(values)
    threshold = abs(values.sum()) - TIE_TOLERANCE * np.abs(values).sum()
    if n <= EXACT_UP_TO:
        sums = values[:1]  # the first sign may stay fixed: flipping all signs leaves |sum| as it is
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return SignFlip(float(np.mean(np.abs(sums) >= threshold)), 2.0 ** (1 - n), exact=True, n=n)
    rng = np.random.default_rng(seed)
    hits = 0
    for draws in _chunks(MONTE_CARLO_DRAWS, n):
        signs = 1.0 - 2.0 * rng.integers(0, 2, (draws, n), dtype=np.int8)
        hits += int(np.count_nonzero(np.abs(signs @ values) >= threshold))
    smallest = 1 / (1 + MONTE_CARLO_DRAWS)
    return SignFlip((1 + hits) * smallest, smallest, exact=False, n=n)


def cluster_bootstrap(values_by_prompt: Sequence[ArrayLike], seed: int = 0, draws: int = 10_000) -> Interval:
    """Return the mean of the prompts' means and its 95 % percentile interval, resampling whole prompts."""
    means = np.array([_finite_vector(values, "values_by_prompt").mean() for values in values_by_prompt])
    if len(means) == 0:
        message = "values_by_prompt is empty: an interval needs at least two prompts."
        raise UserError(message)
    if len(means) == 1:
        return Interval(float(means[0]), math.nan, math.nan)
    rng = np.random.default_rng(seed)
    sizes = _chunks(draws, len(means))
    resampled = np.concatenate([means[rng.integers(0, len(means), (size, len(means)))].mean(axis=1) for size in sizes])
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(means.mean()), float(low), float(high))


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a rate of k in n (without continuity correction)."""
    if not 0 <= k <= n:
        message = f"k must lie between 0 and n, but k is {k} and n is {n}."
        raise UserError(message)
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    rate = k / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def mcnemar_test(b: int, c: int) -> float:
    """Return the exact two-sided p of McNemar's test: b pairs changed one way, c the other."""
    if min(b, c) < 0:
        message = f"b and c are counts, but b is {b} and c is {c}."
        raise UserError(message)
    n = b + c
    tail = sum(math.comb(n, i) for i in range(min(b, c) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values, in the order given; p_values may be empty."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64).ravel()
    if len(vector) == 0 or not np.isfinite(vector).all():
        message = f"{name}: needs at least one number and only finite ones, but got {vector.tolist()[:5]}."
        raise UserError(message)
    return vector


def _chunks(draws: int, width: int) -> list[int]:
    """Split draws so that a (size, width) table stays small."""
    size = max(1, min(draws, 2_000_000 // width))
    return [size] * (draws // size) + ([draws % size] if draws % size else [])
