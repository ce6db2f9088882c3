"""Paired differences: the sign-flip test, and the bootstrap of whole prompts.

Pictures of one prompt resemble each other, so treating all pictures as independent makes intervals too narrow:
whatever speaks about "prompts like these" resamples or flips whole prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
    """Test two-sidedly whether paired differences are symmetric about zero, one difference for each prompt.

    Exact over all 2^n sign patterns up to 20 differences, Monte Carlo with p = (1 + #) / (1 + draws) above. The order
    of the differences does not matter.

    Raises:
        UserError: No differences, or something that is not finite.
    """
    values = _finite_vector(differences, "differences")
    # In one order and without signs, which the flips give them: so that Monte Carlo draws depend on no file order.
    sizes = np.sort(np.abs(values))
    n = len(sizes)
    threshold = abs(math.fsum(values)) - TIE_TOLERANCE * sizes.sum()
    if n <= EXACT_UP_TO:
        sums = sizes[:1]  # the first sign may stay fixed: flipping all signs leaves |sum| as it is
        for size in sizes[1:]:
            sums = np.concatenate([sums + size, sums - size])
        return SignFlip(float(np.mean(np.abs(sums) >= threshold)), smallest_p(n), exact=True, n=n)
    rng = np.random.default_rng(seed)
    hits = 0
    for draws in _chunks(MONTE_CARLO_DRAWS, n):
        signs = 1.0 - 2.0 * rng.integers(0, 2, (draws, n), dtype=np.int8)
        hits += int(np.count_nonzero(np.abs(signs @ sizes) >= threshold))
    return SignFlip((1 + hits) * smallest_p(n), smallest_p(n), exact=False, n=n)


def smallest_p(n: int) -> float:
    """Return the smallest p that a sign-flip test of n differences can give: 2 / 2^n while it is exact.

    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    return 2.0 ** (1 - n) if n <= EXACT_UP_TO else 1 / (1 + MONTE_CARLO_DRAWS)


def cluster_bootstrap(
    values_by_prompt: Sequence[ArrayLike] | Mapping[str, ArrayLike], seed: int = 0, draws: int = 10_000
) -> Interval:
    """Return the mean of the prompts' means and its 95 % percentile interval, resampling whole prompts.

    Args:
        values_by_prompt: One row of numbers for each prompt; prompts with more pictures do not count more, and their
            order does not matter.
        seed: Of the resampling.
        draws: So many resamples.

    Raises:
        UserError: No prompts, a prompt without numbers, or something that is not finite.
    """
    rows = values_by_prompt.values() if isinstance(values_by_prompt, Mapping) else values_by_prompt
    means = np.sort([_finite_vector(values, "values_by_prompt").mean() for values in rows])
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
