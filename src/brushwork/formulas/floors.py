"""How far a number of a whole set of pictures would be from zero by chance, and from which N it means anything.

    floor = noise_floor(base, kernel_distance)              # what two halves of the same set differ by
    distance = kernel_distance(base, tuned)
    distance - floor.mean, not_comparable("fid", 30)

A Frechet distance of 63 between two samples of one and the same distribution is usual at N = 30: such a number is never
shown without its floor and its N.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from brushwork.errors import UserError, nearest
from brushwork.formulas.arrays import same_shape, table, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], float]

SMALLEST = {
    "fid": (10_000, "the estimate falls with N; papers use 30,000 to 50,000"),
    "fd": (10_000, "as FID: the covariance needs many more pictures than dimensions"),
    "kid": (100, "unbiased at any N, but wide below"),
    "cmmd": (1_000, "the biased estimate falls with N"),
    "inception_score": (5_000, "for each split; the estimate grows with N"),
    "precision_recall_density_coverage": (1_000, "balls around few pictures are large"),
}
"""Pictures on each side from which a number may be put beside a published one, and why."""


LEAST_SPLITS = 3
LEAST_DRAWS = 39
"""With fewer no p can reach 0.05, two-sided or not."""


class Floor(NamedTuple):
    """Distances between two samples of one set: what "no difference" looks like at this N."""

    mean: float
    low: float
    """The 2.5 % quantile."""
    high: float
    """The 97.5 % quantile: a distance below it is no evidence."""
    n: int
    """Pictures on each side."""
    with_replacement: bool
    """Whether pictures were drawn more than once, because there were fewer than 2 n; then the floor is only rough."""


def noise_floor(
    features: ArrayLike, distance: Distance, *, size: int | None = None, draws: int = 50, seed: int = 0
) -> Floor:
    """Return how far apart two random samples of ``size`` out of the same features (N, d) lie.

    Without ``size`` the set is halved. Where 2 ``size`` pictures are there, the two samples share none; otherwise both
    are drawn with replacement (bootstrap), which repeats pictures and so moves a distance in either direction.

    Args:
        features: Of one model at many seeds, or of the real pictures.
        distance: ``frechet_distance``, ``kernel_distance``, ``cmmd`` ...
        size: Pictures on each side: that of the comparison whose floor is wanted, since the floor depends on it.
        draws: So many splits.
        seed: Of the splits.

    Raises:
        UserError: Fewer than four rows, or a size or number of draws below what is possible.
    """
    known = table(features, "features", least=4)
    n = len(known) // 2 if size is None else size
    if n < 2 or draws < 1:  # noqa: PLR2004  (a set has two pictures at least)
        message = f"size must be at least 2 and draws at least 1, but they are {n} and {draws}."
        raise UserError(message)
    rng, again = np.random.default_rng(seed), 2 * n > len(known)
    values = []
    for _ in range(draws):
        places = rng.integers(0, len(known), 2 * n) if again else rng.permutation(len(known))[: 2 * n]
        values.append(distance(known[places[:n]], known[places[n:]]))
    low, high = np.percentile(values, [2.5, 97.5])
    return Floor(float(np.mean(values)), float(low), float(high), n, again)


def permutation_test(
    x: ArrayLike, y: ArrayLike, distance: Distance, *, paired: bool = False, draws: int = 200, seed: int = 0
) -> float:
    """Return p of "x and y are samples of one distribution": how often relabelled pictures lie as far apart.

    (1 + #) / (1 + draws), so at least 1 / (1 + draws). The pictures are exchanged, so it speaks about these prompts.

    Args:
        x: Features (N, d).
        y: Features (M, d).
        distance: As for ``noise_floor``.
        paired: Row i of both has the same prompt and seed, and only those two are swapped.
        draws: Relabellings.
        seed: Of the relabellings.

    Raises:
        UserError: Shapes that do not fit, or no draws.
    """
    one, other = tables(x, y, least=2)
    if draws < 1 or (paired and len(one) != len(other)):
        message = f"draws must be at least 1 (is {draws}), and pairs need as many rows: {len(one)} and {len(other)}."
        raise UserError(message)
    rng, observed = np.random.default_rng(seed), distance(one, other)
    pooled, n = np.concatenate([one, other]), len(one)
    hits = 0
    for _ in range(draws):
        if paired:
            swapped = rng.integers(0, 2, n).astype(bool)[:, None]
            again = distance(np.where(swapped, other, one), np.where(swapped, one, other))
        else:
            order = rng.permutation(len(pooled))
            again = distance(pooled[order[:n]], pooled[order[n:]])
        hits += again >= observed - 1e-12 * abs(observed)
    return (1 + int(hits)) / (1 + draws)


def swap_test(
    base: NDArray[np.floating[Any]],
    tuned: NDArray[np.floating[Any]],
    number: Callable[[NDArray[Any]], float],
    *,
    draws: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Return p, and the smallest p there is, of "training did not change this number of a whole set".

    Base and tuned change places prompt by prompt: if training changed nothing, whose pictures they are is a name only.
    Two-sided in number(tuned) - number(base). Exact over all 2^P exchanges if these are no more than 2 ``draws``, else
    (1 + #) / (1 + draws) over random ones.

    Args:
        base: Features (P, N, D).
        tuned: Of the same prompts and seeds.
        number: What is computed from the features (P N, D) of one side.
        draws: So many exchanges at most.
        seed: Of the exchanges.

    Raises:
        UserError: Shapes that differ, or no draws.
    """
    same_shape(base, tuned, ("base", "tuned"))
    if draws < 1:
        message = f"draws must be at least 1, but is {draws}."
        raise UserError(message)
    prompts, width = len(base), base.shape[-1]

    def difference(swapped: NDArray[np.bool_]) -> float:
        choose = swapped[:, None, None]
        one, other = np.where(choose, tuned, base), np.where(choose, base, tuned)
        return number(other.reshape(-1, width)) - number(one.reshape(-1, width))

    exact = 2**prompts <= 2 * draws
    if exact:
        masks = (np.arange(2**prompts)[:, None] >> np.arange(prompts)) & 1
    else:
        masks = np.random.default_rng(seed).integers(0, 2, (draws, prompts))
    observed = abs(difference(np.zeros(prompts, bool)))
    hits = sum(abs(difference(mask.astype(bool))) >= observed * (1 - 1e-12) for mask in masks)
    smallest = min(1.0, 2.0 ** (1 - prompts))
    return (hits / len(masks), smallest) if exact else ((1 + hits) / (1 + draws), max(smallest, 1 / (1 + draws)))


def affordable_draws(rows: int, others: int, width: int, most: int = 200) -> int:
    """Return how many random exchanges of sets of this size take seconds rather than minutes; 0 when too few.

    With fewer than 39 draws no p could be below 0.05.
    """
    possible = int(2e9 / max(1, rows * others * width))
    return min(most, possible) if possible >= LEAST_DRAWS else 0


def floor_draws(rows: int, width: int, most: int = 20) -> int:
    """Return how many splits for a noise floor of ``rows`` pictures a side take seconds; at least three."""
    return max(LEAST_SPLITS, min(most, int(2e10 / max(1, rows * rows * width))))


def not_comparable(metric: str, n: int) -> str | None:
    """Return why a number at this N must not be put beside a published one; None when it may.

    Args:
        metric: A key of ``SMALLEST``.
        n: Pictures on the smaller side (in each split, for the Inception Score).

    Raises:
        UserError: There is no such metric.
    """
    if metric not in SMALLEST:
        message = f"No smallest N is known for {metric!r}.{nearest(metric, SMALLEST)}"
        raise UserError(message)
    least, reason = SMALLEST[metric]
    return None if n >= least else f"not comparable: N = {n}, and below {least:,} it means little ({reason})"
