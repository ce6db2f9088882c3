"""Taking a data set apart: into a training and a validation half, or what is there once from what repeats it.

    split(source, 0.1, seed=0)                  # (places to train on, places held out)
    dedupe(source).kept

Pictures that look alike are never on both sides of a split, mirrored ones included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brushwork.curate import findings, hashing, looks
from brushwork.errors import ConfigError, DataError
from brushwork.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.curate.looks import Look
    from brushwork.readers import Rows


def look_at(rows: Rows) -> list[Look]:
    """Look at every picture.

    Raises:
        DataError: None can be read.
    """
    seen = list(looks.over(rows))
    if all(look.error for look in seen):
        message = f"None of {len(seen)} pictures can be read; the first: {seen[0].name}: {seen[0].error}"
        raise DataError(message)
    return seen


def groups(seen: Sequence[Look], threshold: int = hashing.THRESHOLD) -> list[list[int]]:
    """Return the places of pictures that hang together by their bytes or their looks, broken ones left out."""
    whole = [place for place, look in enumerate(seen) if not look.error]
    labels = hashing.groups(hashing.as_hashes([seen[place].hashes for place in whole]), threshold)
    held: dict[str, list[int]] = {}
    for place, label in zip(whole, labels.tolist(), strict=True):
        # What shows nothing has a hash that says nothing: then only the bytes count.
        key = f"looks {label}" if findings.comparable(seen[place]) else seen[place].digest
        held.setdefault(key, []).append(place)
    return list(held.values())


def split(seen: Sequence[Look], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return (places to train on, places held out), about ``share`` of them held out.

    Who is held out is drawn by content, so that a picture added later does not move the others.

    Raises:
        ConfigError: Too few pictures, or too many that are alike, to hold out that share.
    """
    held = groups(seen)
    count = sum(map(len, held))
    wanted = round(share * count)
    held_out: list[int] = []
    for group in sorted(held, key=lambda each: derive(seed, "split", min(seen[place].digest for place in each))):
        if len(held_out) + len(group) <= wanted:
            held_out += group
    if not held_out or len(held_out) == count:
        message = (
            f"--validation {share:g} of {count} pictures, which hang together in {len(held)} groups of what looks "
            f"alike, cannot be held out without taking a group apart. Give another share."
        )
        raise ConfigError(message)
    taken = set(held_out)
    train = [place for group in held for place in group if place not in taken]
    return sorted(train), sorted(held_out)


@dataclass(frozen=True)
class Deduped:
    """Which pictures are kept, and why the others are not: (place, the place that it repeats or -1, reason)."""

    kept: list[int]
    removed: list[tuple[int, int, str]]


def dedupe(
    seen: Sequence[Look],
    threshold: int = hashing.THRESHOLD,
    *,
    captioned: Sequence[bool] | None = None,
    mirrored: bool = True,
    near: bool = True,
) -> Deduped:
    """Keep one of what repeats; the arguments are those of ``findings.repeats``."""
    found = findings.repeats(seen, threshold, captioned=captioned, mirrored=mirrored, near=near)
    removed = [(place, -1, f"broken: {look.error}") for place, look in enumerate(seen) if look.error]
    removed += [(place, first, "the same bytes") for place, first in found.exact]
    for place, first in found.near:
        bits = _bits(seen[place], seen[first], mirrored=mirrored)
        removed.append((place, first, f"looks alike ({bits} of {hashing.BITS} bits differ)"))
    gone = {place for place, *_ in removed}
    return Deduped([place for place in range(len(seen)) if place not in gone], sorted(removed))


def _bits(first: Look, second: Look, *, mirrored: bool) -> int:
    """Return in how many bits two pictures differ, mirrored or not."""
    sides = hashing.as_hashes([first.hashes])[0, : 1 + mirrored]
    return int(hashing.distance(sides, np.repeat(hashing.as_hashes([second.hashes])[0, :1], len(sides))).min())
