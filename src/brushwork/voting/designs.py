"""Which pictures meet, in which order, and on which side: all of it drawn from one recorded seed.

meetings = pairings(models=4, cells=15, design="balanced")   # (cell, one model, another)
sheets(len(meetings), seed=0)                                # the order, the sides and the repeats of each rater
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from brushwork import seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

Design = Literal["auto", "all", "balanced"]

SHEETS = 8
"""Different orders; each rater gets one. They come in couples with all sides exchanged."""

MOST_FOR_ALL = 3
"""Up to so many models ``auto`` lets all pairs meet on every prompt."""


class Meeting(NamedTuple):
    """Two models' pictures of one cell (a prompt with a seed); ``one`` is the earlier model."""

    cell: int
    one: int
    other: int


class Trial(NamedTuple):
    """One showing of a pair: ``left`` is the place of the left picture in the pair, 0 or 1."""

    pair: int
    left: int
    repeat: bool


def rounds(models: int) -> list[list[tuple[int, int]]]:
    """Return the rounds of a tournament in which everyone meets everyone once: the circle method.

    In a round no model occurs twice; with an odd number one sits out.

    >>> rounds(4)
    [[(0, 3), (1, 2)], [(0, 2), (1, 3)], [(0, 1), (2, 3)]]
    """
    seats = [*range(models)] + ([-1] if models % 2 else [])
    played = []
    for _ in range(len(seats) - 1):
        couples = zip(seats[: len(seats) // 2], seats[: len(seats) // 2 - 1 : -1], strict=True)
        met = [(min(one, other), max(one, other)) for one, other in couples]
        played.append(sorted(couple for couple in met if couple[0] >= 0))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return played


def pairings(models: int, cells: int, design: Design = "auto", most: int | None = None) -> list[Meeting]:
    """Return who meets whom on which cell.

    Args:
        models: At least two.
        cells: Prompts times seeds, prompts innermost, so that a cut leaves out seeds before it leaves out prompts.
        design: ``all``: every pair of models on every cell. ``balanced``: one round of a tournament on each cell, so
            that each model is seen once there, and over the cells all pairs meet equally often, give or take one.
            ``auto``: all up to three models, then balanced.
        most: At most so many.
    """
    played = rounds(models)
    everyone = [couple for each in played for couple in each]
    if design == "all" or (design == "auto" and models <= MOST_FOR_ALL):
        # Cells go round before couples do, shifted, so that a cut takes all couples equally often.
        every = [Meeting(cell, *everyone[(turn + cell) % len(everyone)]) for turn in range(len(everyone))
                 for cell in range(cells)]  # fmt: skip
    else:
        every = [Meeting(cell, *couple) for cell in range(cells) for couple in played[cell % len(played)]]
    return every if most is None else every[:most]


def sheets(pairs: int, seed: int, repeats: float = 0.1) -> Iterator[list[Trial]]:
    """Yield the ``SHEETS`` orders of a ballot.

    In each, ``left`` is 0 in half of the pairs. In the second of each couple of sheets all sides are exchanged, so over
    raters each picture stands left as often as right. The share ``repeats`` of the pairs, all from the first half,
    comes again in the second half with exchanged sides.
    """
    for number in range(SHEETS):
        sides = np.random.default_rng(seeds.derive(seed, "sides", number // 2)).permutation(pairs) % 2
        rng = np.random.default_rng(seeds.derive(seed, "order", number))
        order = rng.permutation(pairs)
        shown = [Trial(int(pair), int(sides[pair] ^ (number % 2)), repeat=False) for pair in order]
        half, count = pairs // 2, min(math.ceil(repeats * pairs), pairs // 2)
        again = sorted(rng.choice(pairs - half, count, replace=False).tolist()) if count else []
        for turn, place in reversed(list(enumerate(again, 1))):
            trial = shown[place]
            shown.insert(half + turn * (pairs - half) // count, Trial(trial.pair, 1 - trial.left, repeat=True))
        yield shown
