"""Pictures against texts and pictures against reference pictures, by cosine.

All functions divide by the length of the features themselves; raw cosines are in [-1, 1], never scaled or clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brushwork.errors import UserError
from brushwork.formulas.arrays import finite, same_shape, table, tables, unit
from brushwork.formulas.diversity import pairwise_diversity

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

HESSEL_WEIGHT = 2.5


class MatrixSummary(NamedTuple):
    """What a matrix of similarities says: do pictures fit their own text better than the others'?"""

    diagonal: float
    """Mean cosine of a picture with its own text."""
    off_diagonal: float
    """Mean cosine with the other texts; NaN with a single text."""
    gap: float
    """The difference of the two."""
    top1: float
    """Share of pictures whose own text is the most similar (R-precision)."""
    mrr: float
    """Mean of 1 / rank of the own text."""


def similarity_matrix(images: ArrayLike, texts: ArrayLike) -> NDArray[np.float64]:
    """Return the cosine (N, P) of each picture (N, d) with each text (P, d).

    Raises:
        UserError: Shapes that do not fit, a row of zeros, or something that is not finite.
    """
    one, other = tables(images, texts, ("images", "texts"))
    cosines: NDArray[np.float64] = unit(one, "images") @ unit(other, "texts").T
    return cosines


def summarise_similarity(matrix: ArrayLike, own: ArrayLike | None = None) -> MatrixSummary:
    """Return diagonal, gap, top-1 and mean reciprocal rank of similarities (N, P).

    Equal similarities are ranked at random, in expectation: a model that draws one picture for all P prompts has a
    top-1 of 1 / P.

    Args:
        matrix: Pictures by texts.
        own: (N,), which text is each picture's own. Without it N must be a multiple of P: the pictures of the first
            text come first, then as many of the second.

    Raises:
        UserError: Shapes or places that do not fit.
    """
    similarity = table(matrix, "matrix")
    n, p = similarity.shape
    if own is None and n % p:
        message = f"matrix: {n} pictures cannot be {p} texts' in equal parts; say with own=... whose each is."
        raise UserError(message)
    places = np.arange(n) // (n // p) if own is None else finite(own, "own").astype(np.int64)
    if places.shape != (n,) or places.min() < 0 or places.max() >= p:
        message = f"own: needs one number from 0 to {p - 1} for each of {n} pictures."
        raise UserError(message)
    fits = similarity[np.arange(n), places]
    greater = (similarity > fits[:, None]).sum(axis=1)
    tied = (similarity == fits[:, None]).sum(axis=1)  # the own text is one of them
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, p + 1))])
    reciprocal = (harmonic[greater + tied] - harmonic[greater]) / tied
    off = (similarity.sum(axis=1) - fits) / (p - 1) if p > 1 else np.full(n, np.nan)
    diagonal, others = float(fits.mean()), float(off.mean())
    top1 = float(np.where(greater == 0, 1 / tied, 0.0).mean())
    return MatrixSummary(diagonal, others, diagonal - others, top1, float(reciprocal.mean()))


def clip_score(cosines: ArrayLike, convention: str = "cosine") -> NDArray[np.float64]:
    """Return cosines in one of the scalings in use.

    Args:
        cosines: Of any shape.
        convention: ``cosine`` as they are, ``percent`` for 100 max(cos, 0) (torchmetrics), ``hessel`` for
            2.5 max(cos, 0) (Hessel et al. 2021, arXiv:2104.08718, whose texts begin with "A photo depicts").

    Raises:
        UserError: Another convention.
    """
    values = finite(cosines, "cosines")
    scales = {"percent": 100.0, "hessel": HESSEL_WEIGHT}
    if convention == "cosine":
        return values
    if convention not in scales:
        message = f"convention: there are cosine, percent and hessel, but not {convention!r}."
        raise UserError(message)
    return scales[convention] * np.maximum(values, 0.0)


def directional_similarity(
    base: ArrayLike, tuned: ArrayLike, base_texts: ArrayLike, tuned_texts: ArrayLike
) -> NDArray[np.float64]:
    """Return the cosine (N,) of each picture's change with its text's change: Gal et al. 2022, arXiv:2108.00946.

    cos(f(tuned) - f(base), g(tuned text) - g(base text)), with f and g unit vectors. A picture that did not change has
    no direction and gives 0.

    Args:
        base: Features (N, d) of pictures before.
        tuned: Features (N, d) of the same prompts and seeds after.
        base_texts: Features (N, d), or (1, d) for all, of what was there ("a dog").
        tuned_texts: The same of what should be there ("a dog, as an engraving").

    Raises:
        UserError: Shapes that do not fit, or two texts that are the same.
    """
    before, after = tables(base, tuned, ("base", "tuned"))
    source, goal = tables(base_texts, tuned_texts, ("base_texts", "tuned_texts"))
    same_shape(before, after, ("base", "tuned"))
    same_shape(source, goal, ("base_texts", "tuned_texts"))
    if len(source) not in (1, len(before)) or source.shape[1] != before.shape[1]:
        message = f"texts of the shape {source.shape} do not belong to pictures of the shape {before.shape}."
        raise UserError(message)
    wanted = unit(goal, "tuned_texts") - unit(source, "base_texts")
    if not wanted.any(axis=1).all():
        message = f"text {int(np.argmin(wanted.any(axis=1)))} is the same before and after, so it names no direction."
        raise UserError(message)
    change = unit(after, "tuned") - unit(before, "base")
    lengths = np.linalg.norm(change, axis=1) * np.linalg.norm(wanted, axis=1)
    along = (change * wanted).sum(axis=1)
    cosines: NDArray[np.float64] = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
    return cosines


def reference_similarity(images: ArrayLike, references: ArrayLike) -> NDArray[np.float64]:
    """Return the mean cosine (N,) of each picture (N, d) with all references (R, d): CLIP-I and DINO-I.

    Ruiz et al. 2022 (DreamBooth, arXiv:2208.12242), section 4. Copies of the references score highest, so read it
    beside the copies found (``find_copies``) and below ``reference_ceiling``.

    Raises:
        UserError: Shapes that do not fit, a row of zeros, or something that is not finite.
    """
    one, other = tables(images, references, ("images", "references"))
    # The mean of the cosines is the cosine with the mean, before that is scaled to length 1.
    cosines: NDArray[np.float64] = unit(one, "images") @ unit(other, "references").mean(axis=0)
    return cosines


def reference_ceiling(references: ArrayLike) -> float:
    """Return the mean cosine of different references (R, d), R >= 2: what a perfect likeness can be expected to reach.

    Raises:
        UserError: Fewer than two rows, a row of zeros, or something that is not finite.
    """
    return 1.0 - pairwise_diversity(references)


def leakage(base: ArrayLike, tuned: ArrayLike, references: ArrayLike) -> NDArray[np.float64]:
    """Return how much nearer each picture came to the references, (N,), on prompts that do not ask for them.

    The difference of ``reference_similarity`` between tuned and base on prompts without the token (DreamBooth's PRES,
    less what the base has by itself). 0 is no leak; equal features give exactly 0.

    Raises:
        UserError: Shapes that do not fit, a row of zeros, or something that is not finite.
    """
    before, after = tables(base, tuned, ("base", "tuned"))
    same_shape(before, after, ("base", "tuned"))
    return reference_similarity(after, references) - reference_similarity(before, references)
