"""Are drawn pictures copies of training pictures? Each one's nearest training picture, against how near those lie.

    copies = find_copies(drawn, training, mirrored=features_of_the_mirrored_training_pictures)
    copies.share, copies.threshold, copies.nearest[copies.flagged]

No fixed cosine means "copy" for every encoder and every data set. The measure is the data's own: how near to each
training picture the nearest other one lies (leave one out). What is nearer than nearly all of those is suspicious.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import blocks, same_shape, table, tables, unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SAME = 1 - 1e-6
"""A cosine from which on two pictures are one and the same."""


@dataclass(frozen=True, eq=False)
class Copies:
    """What was found about N drawn pictures."""

    similarity: NDArray[np.float64]
    """(N,), the cosine with the nearest training picture."""
    nearest: NDArray[np.int64]
    """(N,), which training picture that is."""
    is_mirrored: NDArray[np.bool_]
    """(N,), whether it is nearest when mirrored."""
    flagged: NDArray[np.bool_]
    """(N,), above the threshold."""
    threshold: float
    """The quantile of the training pictures' own nearest neighbours; 1 when there are no two different ones."""

    @property
    def share(self) -> float:
        """The share of drawn pictures that are flagged."""
        return float(self.flagged.mean())


def find_copies(
    drawn: ArrayLike, training: ArrayLike, *, mirrored: ArrayLike | None = None, quantile: float = 0.95
) -> Copies:
    """Return the nearest training picture of each drawn one, and which are nearer than training pictures are to others.

    Of training pictures that lie evenly, 1 - ``quantile`` would be flagged themselves, so a share of that size is no
    evidence; compare with the base's share. Training pictures that occur twice do not raise the threshold: equal ones
    (cosine above 1 - 1e-6) are not each other's neighbours. A drawn picture that equals one is always flagged.

    Args:
        drawn: Features (N, d).
        training: Features (R, d).
        mirrored: Features (R, d) of the same training pictures, flipped, when training flipped them.
        quantile: Of the leave-one-out similarities, the threshold.

    Raises:
        UserError: Shapes that do not fit, a row of zeros, or something that is not finite.
    """
    if not 0 < quantile < 1:
        message = f"quantile must lie between 0 and 1, but is {quantile}."
        raise UserError(message)
    one, known = tables(drawn, training, ("drawn", "training"))
    versions = [unit(known, "training")]
    if mirrored is not None:
        flipped = table(mirrored, "mirrored")
        same_shape(known, flipped, ("training", "mirrored"))
        versions.append(unit(flipped, "mirrored"))
    every = np.concatenate(versions)
    similarity, place = _nearest(unit(one, "drawn"), every)
    apart = _leave_one_out(versions[0], every)
    threshold = float(np.quantile(apart, quantile)) if len(apart) else 1.0
    nearest = place % len(known)
    flagged = (similarity > threshold) | (similarity >= SAME)
    return Copies(similarity, nearest, place >= len(known), flagged, threshold)


def _nearest(one: NDArray[np.float64], every: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    similarity, place = np.empty(len(one)), np.empty(len(one), np.int64)
    for rows in blocks(len(one), len(every)):
        cosines = one[rows] @ every.T
        place[rows] = cosines.argmax(axis=1)
        similarity[rows] = cosines.max(axis=1)
    return np.minimum(similarity, 1.0), place


def _leave_one_out(known: NDArray[np.float64], every: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the training pictures' cosines with their nearest different ones, of those that have one: (<= R,)."""
    found: NDArray[np.float64] = np.full(len(known), -np.inf)
    for rows in blocks(len(known), len(every)):
        cosines = known[rows] @ every.T
        cosines[cosines >= SAME] = -np.inf  # itself, and its doubles
        for start in range(len(known), len(every), len(known)):  # a picture's own mirror image is no neighbour
            cosines[np.arange(len(cosines)), np.arange(start + rows.start, start + rows.stop)] = -np.inf
        found[rows] = cosines.max(axis=1)
    return found[np.isfinite(found)]
