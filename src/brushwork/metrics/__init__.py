"""Metrics: features in, numbers out. One file each; the file name is the registered name.

A metric's module has ``NEEDS`` (the encoder it reads, one of ``encoders.Serves``; ``ALSO`` others that do as well),
``KIND`` (name, version, direction; ``KINDS`` where it gives several numbers), ``ASKS`` (what it needs to say anything,
in words) and ``measure(drawn) -> list[Result]``; where it says something about a single picture also
``scores(images, texts) -> (P, N)``, by which pictures can be ranked. The mathematics is in functions over arrays of
features, so that every number can be computed again from the features that were saved; they lie in
``brushwork.formulas`` and can be imported from here.

Shapes: P prompts, N seeds for each prompt, D the width of a feature, R reference pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from brushwork.formulas.diversity import pairwise_diversity, vendi_score
from brushwork.formulas.floors import (
    Floor,
    affordable_draws,
    floor_draws,
    noise_floor,
    not_comparable,
    permutation_test,
    swap_test,
)
from brushwork.formulas.frechet import frechet_distance, frechet_distance_from_statistics
from brushwork.formulas.inception import InceptionScore, inception_score
from brushwork.formulas.kernels import cmmd, kernel_distance
from brushwork.formulas.memorisation import Copies, find_copies
from brushwork.formulas.neighbours import precision_recall_density_coverage
from brushwork.formulas.similarity import (
    MatrixSummary,
    clip_score,
    directional_similarity,
    leakage,
    reference_ceiling,
    reference_similarity,
    similarity_matrix,
    summarise_similarity,
)
from brushwork.formulas.structure import ms_ssim, psnr, ssim
from brushwork.statistics import cluster_bootstrap, sign_flip_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from brushwork.encoders import Serves

    Array = NDArray[np.floating[Any]]
    Distance = Callable[[Array, Array], float]

__all__ = [
    "Copies",
    "Drawn",
    "Estimate",
    "Floor",
    "InceptionScore",
    "Kind",
    "MatrixSummary",
    "Metric",
    "PromptSet",
    "Result",
    "affordable_draws",
    "between_sides",
    "clip_score",
    "cmmd",
    "directional_similarity",
    "estimate",
    "find",
    "find_copies",
    "floor_draws",
    "frechet_distance",
    "frechet_distance_from_statistics",
    "inception_score",
    "kernel_distance",
    "leakage",
    "likeness",
    "ms_ssim",
    "noise_floor",
    "not_comparable",
    "of_seeds",
    "of_sets",
    "paired",
    "pairwise_diversity",
    "permutation_test",
    "precision_recall_density_coverage",
    "psnr",
    "reference_ceiling",
    "reference_similarity",
    "similarity_matrix",
    "ssim",
    "summarise_similarity",
    "swap_test",
    "to_references",
    "vendi_score",
]

PromptSet = Literal["target", "content", "control"]
"""What asks for what was learnt; the same without its words; what has nothing to do with it (held out)."""
Direction = Literal["higher", "lower", "closer"]
Subject = Literal["base", "tuned", "difference", "ratio", "pairs", "data"]
"""What a number is about; ``pairs`` is base against tuned at the same seed."""
Against = Literal["base", "usual"]
"""What tuned is held against: the base drawn with the same settings, or the base as it is usually drawn."""

LEAST_SET = 4
"""Pictures of the smallest set that can be halved."""

OPTIMISED = "the loss's own judge: optimised, not evidence"
"""The caveat of what is measured by the very model whose opinion the training loss improved."""


class Kind(NamedTuple):
    """What a metric's numbers are; the version changes whenever the same features would give another number."""

    name: str
    version: str
    direction: Direction


class Estimate(NamedTuple):
    """A mean over prompts, its 95 % interval (None with fewer than two prompts), and the pictures behind it."""

    value: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Drawn:
    """One set of prompts, drawn by base and by tuned at identical seeds, as features of one encoder.

    At identical settings too, unless ``against`` says that the base was drawn as usual.
    """

    prompts: tuple[str, ...]
    prompt_set: PromptSet
    base: Array
    """(P, N, D); (P, N, H, W) for luminance, whose features are pictures."""
    tuned: Array
    """(P, N, D); as base."""
    texts: Array | None
    """(P, D); None when the encoder does not read text."""
    references: Array | None
    """(R, D); the training pictures, where they could be read."""
    encoder: str
    revision: str
    seed: int = 0
    """Seeds the bootstrap."""
    mirrored: Array | None = None
    """(R, D); the references flipped, where training flipped them."""
    caveat: str | None = None
    """Why the encoder's numbers prove less than they seem to; see ``OPTIMISED``."""
    against: Against = "base"
    whole_texts: Array | None = None
    """(P, D); of target and content prompts, where there are both, the texts with the words of the style or token."""
    preprocessing: str = ""
    """How the encoder prepared the pictures."""
    plain_texts: Array | None = None
    """(P, D); the prompts without the words of the data's style; None where it has none."""
    style_texts: Array | None = None
    """(P, D); the prompts with them."""
    words: tuple[str, ...] = ()
    """The words that show the style in a caption."""
    scale: float = 1.0
    """What cosines are multiplied by to be this encoder's scores."""

    def result(self, kind: Kind, of: Subject, estimate: Estimate, **details: Any) -> Result:
        """Return a result about this set."""
        return Result(
            **kind._asdict(),
            **estimate._asdict(),
            of=of,
            prompt_set=self.prompt_set,
            encoder=self.encoder,
            revision=self.revision,
            preprocessing=self.preprocessing,
            seed=self.seed,
            caveat=self.caveat,
            against=self.against,
            details=details,
        )


@dataclass(frozen=True)
class Result:
    """One number with all that is needed to quote it. ``n`` counts pictures (pairs for a difference)."""

    name: str
    version: str
    prompt_set: PromptSet
    of: Subject
    value: float
    interval: tuple[float, float] | None
    n: int
    direction: Direction
    encoder: str
    revision: str
    seed: int
    p: float | None = None
    smallest_p: float | None = None
    caveat: str | None = None
    """Why it proves less than it seems to, or None."""
    against: Against = "base"
    preprocessing: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def remark(self) -> str:
        """What must be read with the value, in short: the caveat, the noise floor of a set; empty for most."""
        floor = self.details.get("floor")
        parts = [each.partition(", and below")[0] for each in (self.caveat or "").split("; ") if each]
        if floor:
            at = "" if floor["n"] == self.n else f" at N = {floor['n']}"
            parts.append(f"noise floor {floor['mean']:.3g} ({floor['low']:.3g} to {floor['high']:.3g}){at}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return asdict(self)

    @staticmethod
    def from_dict(stored: dict[str, Any]) -> Result:
        """Read what ``to_dict`` gave; a value that was not a number comes back as NaN."""
        interval = stored["interval"]
        value = float("nan") if stored["value"] is None else stored["value"]
        return Result(**{**stored, "value": value, "interval": tuple(interval) if interval else None})


class Metric(Protocol):
    """The module of a metric."""

    NEEDS: Serves
    KIND: Kind
    ASKS: str

    def measure(self, drawn: Drawn) -> list[Result]:
        """Return the numbers of one prompt set; empty when the metric has nothing to say about it."""


def estimate(scores: Array, seed: int) -> Estimate:
    """Return the mean over prompts of scores (P, N) and its interval over prompts."""
    mean, low, high = cluster_bootstrap(list(scores), seed=seed)
    return Estimate(mean, None if np.isnan(low) else (low, high), scores.size)


def paired(kind: Kind, drawn: Drawn, base: Array, tuned: Array) -> list[Result]:
    """Return three results for scores (P, N): of base, of tuned, and of their paired difference with its test.

    The difference's ``details`` list every prompt, so that the ones that lost can be named.
    """
    base, tuned = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    difference = tuned - base
    by_prompt = difference.mean(axis=1)
    test = sign_flip_test(by_prompt)
    rows = [
        {"prompt": prompt, "base": float(b), "tuned": float(t), "difference": float(d)}
        for prompt, b, t, d in zip(drawn.prompts, base.mean(axis=1), tuned.mean(axis=1), by_prompt, strict=True)
    ]
    details = {"prompts": rows, "share_of_prompts_higher": float(np.mean(by_prompt > 0)), "exact": test.exact}
    change = drawn.result(kind, "difference", estimate(difference, drawn.seed), **details)
    return [
        drawn.result(kind, "base", estimate(base, drawn.seed)),
        drawn.result(kind, "tuned", estimate(tuned, drawn.seed)),
        replace(change, p=test.p, smallest_p=test.smallest_p),
    ]


def of_seeds(kind: Kind, drawn: Drawn, measure: Callable[[Array], float]) -> list[Result]:
    """Return three results as ``paired`` of a measure of one prompt's seeds (N, D); none for a single seed."""
    prompts, seeds = drawn.base.shape[:2]
    if seeds == 1:
        return []
    base, tuned = (np.array([[measure(each)] for each in side]) for side in (drawn.base, drawn.tuned))
    return [replace(result, n=prompts * seeds) for result in paired(kind, drawn, base, tuned)]


def to_references(kind: Kind, drawn: Drawn, distance: Distance, smallest: str) -> list[Result]:
    """Return three results as ``paired`` of the distance of each side's whole set from the training pictures.

    Each comes with the noise floor, which is how far two halves of the training pictures are apart, and below the
    size from which the number means something with the words "not comparable". The p of the difference is of whole
    prompts changing sides (``formulas.floors.swap_test``). Nothing without four training pictures.

    Args:
        kind: Of the results.
        drawn: Target prompts; on others nothing is said.
        distance: Of features (N, D) and the training pictures' (R, D).
        smallest: The key of ``formulas.floors.SMALLEST``.
    """
    known = drawn.references
    if drawn.prompt_set != "target" or known is None or len(known) < LEAST_SET or drawn.base[..., 0].size < LEAST_SET:
        return []
    rows = drawn.base[..., 0].size
    size = min(rows, len(known) // 2)
    floor = noise_floor(known, distance, size=size, draws=floor_draws(size, known.shape[1]), seed=drawn.seed)
    return of_sets(kind, drawn, lambda side: distance(side, known), floor, smallest, min(rows, len(known)))


def of_sets(
    kind: Kind, drawn: Drawn, number: Callable[[Array], float], floor: Floor | None, smallest: str, n: int
) -> list[Result]:
    """Return three results of one number of a whole set: of base, of tuned, and the difference with its p.

    Args:
        kind: Of the results.
        drawn: What was drawn.
        number: Of the features (P N, D) of one side.
        floor: What it is between two sets of one distribution.
        smallest: The key of ``formulas.floors.SMALLEST``.
        n: The pictures that decide whether it is comparable.
    """
    width = drawn.base.shape[-1]
    base, tuned = (number(side.reshape(-1, width)) for side in (drawn.base, drawn.tuned))
    others = 0 if drawn.references is None else len(drawn.references)
    draws = affordable_draws(drawn.base[..., 0].size, max(others, drawn.base[..., 0].size), width)
    p, least = swap_test(drawn.base, drawn.tuned, number, draws=draws, seed=drawn.seed) if draws else (None, None)
    details = {"floor": floor._asdict() if floor else None, "references": others}
    middle = floor.mean if floor else 0.0
    marked = replace(drawn, caveat=_joined(drawn.caveat, not_comparable(smallest, n)))
    rows = drawn.base[..., 0].size
    change = marked.result(kind, "difference", Estimate(tuned - base, None, rows), **details)
    return [
        marked.result(kind, "base", Estimate(base, None, rows), **details, above_floor=base - middle),
        marked.result(kind, "tuned", Estimate(tuned, None, rows), **details, above_floor=tuned - middle),
        replace(change, p=p, smallest_p=least),
    ]


def between_sides(kind: Kind, drawn: Drawn, distance: Distance, smallest: str) -> list[Result]:
    """Return one result: how far the tuned model's set lies from the base's, same prompts and seeds; 0 is unchanged.

    With the noise floor of two samples of the base's pictures, and the p of single pairs changing sides. For prompts
    that have nothing to do with the data; on others nothing is said.
    """
    base, tuned = (side.reshape(-1, drawn.base.shape[-1]) for side in (drawn.base, drawn.tuned))
    if drawn.prompt_set == "target" or len(base) < LEAST_SET:
        return []
    # As many pictures as are compared, drawn with replacement: halves would have a higher floor.
    splits = floor_draws(*base.shape)
    floor = noise_floor(base, distance, size=len(base), draws=splits, seed=drawn.seed)
    draws = affordable_draws(len(base), len(base), base.shape[-1])
    p = permutation_test(base, tuned, distance, paired=True, draws=draws, seed=drawn.seed) if draws else None
    marked = replace(drawn, caveat=_joined(drawn.caveat, not_comparable(smallest, len(base))))
    result = marked.result(kind, "pairs", Estimate(distance(base, tuned), None, len(base)), floor=floor._asdict())
    return [replace(result, p=p, smallest_p=1 / (1 + draws) if draws else None)]


def likeness(kind: Kind, drawn: Drawn) -> list[Result]:
    """Return results as ``paired`` of each picture's mean cosine with all references, and the references' own.

    ``data`` is the ceiling: the mean cosine of different references. Nothing without references, and on target prompts
    only; on others it would be leakage.
    """
    known = drawn.references
    if drawn.prompt_set != "target" or known is None:
        return []
    shape, width = drawn.base.shape[:2], drawn.base.shape[-1]
    sides = (reference_similarity(side.reshape(-1, width), known).reshape(shape) for side in (drawn.base, drawn.tuned))
    results = paired(kind, drawn, *sides)
    if len(known) > 1:
        ceiling = Estimate(reference_ceiling(known), None, len(known))
        results.append(drawn.result(kind, "data", ceiling, what="the references among themselves"))
    return results


def _joined(*parts: str | None) -> str | None:
    return "; ".join(each for each in parts if each) or None


def find(
    results: Iterable[Result], name: str, of: Subject, prompt_set: PromptSet = "target", against: Against = "base"
) -> Result | None:
    """Return one result by what it is, one without a caveat if there is one; None when it was not measured."""
    wanted = (name, of, prompt_set, against)
    same = [each for each in results if (each.name, each.of, each.prompt_set, each.against) == wanted]
    return min(same, key=lambda each: each.caveat is not None, default=None)
