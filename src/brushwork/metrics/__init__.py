"""Metrics: features in, numbers out. One file each; the file name is the registered name.

A metric's module has ``NEEDS`` (the encoder whose features it reads: ``clip`` or ``colour``), ``KIND`` (name, version,
direction) and ``measure(drawn) -> list[Result]``. The mathematics is in functions over arrays of features, never over
pictures, so that every number can be computed again from the features that were saved.

Shapes: P prompts, N seeds for each prompt, D the width of a feature, R reference pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from brushwork.statistics import cluster_bootstrap, sign_flip_test

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

PromptSet = Literal["target", "control"]
Direction = Literal["higher", "lower", "closer"]
Subject = Literal["base", "tuned", "difference", "ratio", "data"]
Against = Literal["base", "usual"]
"""What tuned is held against: the base drawn with the same settings, or the base as it is usually drawn."""


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
    """(P, N, D)"""
    tuned: Array
    """(P, N, D)"""
    texts: Array | None
    """(P, D); None when the encoder does not read text."""
    references: Array | None
    """(R, D); the training pictures, where they could be read."""
    encoder: str
    revision: str
    seed: int = 0
    """Seeds the bootstrap."""
    against: Against = "base"

    def result(self, kind: Kind, of: Subject, estimate: Estimate, **details: Any) -> Result:
        """Return a result about this set."""
        return Result(
            **kind._asdict(),
            **estimate._asdict(),
            of=of,
            prompt_set=self.prompt_set,
            encoder=self.encoder,
            revision=self.revision,
            seed=self.seed,
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
    against: Against = "base"
    details: dict[str, Any] = field(default_factory=dict)

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

    NEEDS: Literal["clip", "colour"]
    KIND: Kind

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
    difference = np.asarray(tuned, np.float64) - np.asarray(base, np.float64)
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


def find(
    results: Iterable[Result], name: str, of: Subject, prompt_set: PromptSet = "target", against: Against = "base"
) -> Result | None:
    """Return one result by what it is, None when it was not measured."""
    wanted = (name, of, prompt_set, against)
    same = (each for each in results if (each.name, each.of, each.prompt_set, each.against) == wanted)
    return next(same, None)
