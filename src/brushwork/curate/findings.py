"""What is wrong with a data set, by rules: each finding has a level, a sentence, and the pictures that it is about.

    for finding in sizes(looks, 512):
        finding.level, finding.message

error: training on it would teach nothing or is impossible; ``train`` refuses. warning: probably not what is wanted.
note: worth knowing. What concerns at least half of twenty pictures or more is an error even where one picture is none.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from brushwork import buckets
from brushwork.curate import hashing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from brushwork.curate.looks import Look

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
NAMED = 200
"""So many pictures are named in a finding."""
SYSTEMATIC, ENOUGH = 0.5, 20
ENLARGED, CROPPED = 2.0, 1 / 3
"""What is worth a warning: enlarged so many times, or losing so large a share of its area."""
REPEATED = 0.2
"""A share of pictures that have one and the same caption."""
TOKENS = 75
"""What CLIP's text encoders read, without start and end."""
PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE)
"""A text has at least so many tokens: this is where CLIP's tokenizer cuts it before it cuts further."""


@dataclass(frozen=True)
class Finding:
    """Something about a data set."""

    level: Level
    kind: str
    message: str
    count: int
    of: int
    names: tuple[str, ...] = ()
    """The first of the pictures, or of pairs ``A = B``."""

    def line(self) -> str:
        """Return it for people, with the first names."""
        shown = ", ".join(self.names[:3])
        more = f" and {self.count - 3} more" if self.count > 3 and shown else ""  # noqa: PLR2004  (of three)
        return f"{self.level}: {self.message}{f' ({shown}{more})' if shown else ''}"


def worst(findings: Iterable[Finding]) -> Level | None:
    """Return the gravest level; None of no findings."""
    return min((each.level for each in findings), key=LEVELS.index, default=None)


def _finding(level: Level, kind: str, message: str, names: Sequence[str], of: int) -> Iterator[Finding]:
    if names:
        yield Finding(level, kind, message.format(n=len(names), of=of), len(names), of, tuple(names[:NAMED]))


def _grave(finding: Finding) -> Finding:
    """Return a finding as an error where it concerns most of a data set."""
    if finding.of >= ENOUGH and finding.count >= SYSTEMATIC * finding.of:
        return dataclasses.replace(finding, level="error")
    return finding


def broken(looks: Sequence[Look]) -> Iterator[Finding]:
    """Find pictures that cannot be decoded."""
    names = [f"{look.name}: {look.error}" for look in looks if look.error]
    yield from _finding("error", "broken", "{n} of {of} pictures cannot be read", names, len(looks))


def empty(looks: Sequence[Look]) -> Iterator[Finding]:
    """Find pictures with nothing to learn from."""
    said = {"blank": "show one colour", "white": "are all but white", "text": "look like pages of text"}
    for kind, words in said.items():
        names = [look.name for look in looks if look.emptiness == kind]
        yield from map(_grave, _finding("warning", kind, f"{{n}} of {{of}} pictures {words}", names, len(looks)))


def stored(looks: Sequence[Look]) -> Iterator[Finding]:
    """Find what is unusual about how pictures are stored."""
    said = {
        "suffix": "{n} of {of} pictures are of another format than their names say; they are read as what they are",
        "turned": "{n} of {of} pictures are stored on their side (EXIF) and are turned upright",
        "animated": "{n} of {of} pictures are animated; the first frame is taken",
        "transparent": "{n} of {of} pictures are transparent; data.background lies behind them",
        "CMYK": "{n} of {of} pictures are in printing inks and become RGB by their own colour profile",
        "16 bits": "{n} of {of} pictures have 16 bits a channel and become 8",
    }
    for remark, message in said.items():
        names = [look.name for look in looks if remark in look.remarks]
        yield from _finding("note", remark, message, names, len(looks))


def sizes(looks: Sequence[Look], resolution: int, *, bucketed: bool = False) -> Iterator[Finding]:
    """Find pictures that training would enlarge much or crop much."""
    whole = [look for look in looks if look.width]
    shorter = {each.name: min(each.width, each.height) for each in whole if not bucketed}
    small = [name for name, side in shorter.items() if ENLARGED * side <= resolution]
    message = f"{{n}} of {{of}} pictures are enlarged {ENLARGED:g} times or more to reach {resolution} pixels"
    yield from map(_grave, _finding("warning", "small", message, small, len(looks)))
    slightly = [name for name, side in shorter.items() if resolution / ENLARGED < side < resolution]
    message = f"{{n}} of {{of}} pictures are enlarged a little to reach {resolution} pixels"
    yield from _finding("note", "enlarged", message, slightly, len(looks))
    square = (resolution, resolution)
    long = [] if bucketed else [e.name for e in whole if buckets.lost((e.width, e.height), square)[0] > CROPPED]
    message = (
        "{n} of {of} pictures lose more than a third of their area to the square that is cropped; "
        "data.buckets=true keeps their shape"
    )
    yield from _finding("warning", "cropped", message, long, len(looks))


def captions(texts: Sequence[str | None], names: Sequence[str], token: str | None = None) -> Iterator[Finding]:
    """Find captions that are missing, repeated, or without the word that is to be learnt."""
    of = len(texts)
    bare = [name for name, text in zip(names, texts, strict=True) if not text]
    yield from _finding("error", "uncaptioned", "{n} of {of} pictures have no caption", bare, of)
    counts = collections.Counter(text for text in texts if text)
    if len(counts) == 1 and of > 1 and not bare:
        yield Finding("error", "same caption", f"all {of} captions are the same: {texts[0]!r}", of, of)
    else:
        again = [name for name, text in zip(names, texts, strict=True) if text and counts[text] > 1]
        level: Level = "warning" if max(counts.values(), default=0) > REPEATED * of else "note"
        yield from _finding(
            level, "repeated caption", "{n} of {of} pictures have a caption that others have too", again, of
        )
    if token:
        found = re.compile(rf"(?<!\w){re.escape(token)}(?!\w)", re.IGNORECASE)
        without = [name for name, text in zip(names, texts, strict=True) if text and not found.search(text)]
        yield from _finding("error", "token", f"{{n}} of {{of}} captions never mention {token!r}", without, of)


def lengths(
    texts: Sequence[str | None], names: Sequence[str], unread: Callable[[str], str] | None = None
) -> Iterator[Finding]:
    """Find captions whose end is not read; without a tokenizer only those that are too long in any case."""
    if unread is None:
        long = [name for name, text in zip(names, texts, strict=True) if text and len(PIECES.findall(text)) > TOKENS]
        message = (
            f"{{n}} of {{of}} captions have more than {TOKENS} tokens whatever the tokenizer; their ends are not read"
        )
        yield from _finding("warning", "long caption", message, long, len(texts))
        return
    ends = {text: unread(text) for text in dict.fromkeys(text for text in texts if text)}
    cut = [f"{name}: ...{ends[text]}" for name, text in zip(names, texts, strict=True) if text and ends[text]]
    message = "{n} of {of} captions are longer than the text encoder reads; what is cut"
    yield from _finding("warning", "long caption", message, cut, len(texts))


@dataclass(frozen=True)
class Repeats:
    """Which pictures repeat which."""

    exact: list[tuple[int, int]]
    """(picture, the first one with the same bytes)."""
    near: list[tuple[int, int]]
    """(picture, the one to keep that it looks like), without the exact ones."""


def repeats(
    looks: Sequence[Look],
    threshold: int = hashing.THRESHOLD,
    *,
    captioned: Sequence[bool] | None = None,
    mirrored: bool = True,
    near: bool = True,
) -> Repeats:
    """Find pictures that repeat others; broken ones and those without a digest or anything to see are none.

    Args:
        looks: The pictures.
        threshold: In how many of 64 bits near duplicates may differ.
        captioned: Which have a caption: of those that repeat one another one with a caption is kept, of the same bytes
            the first of these, of what looks alike the largest.
        mirrored: Whether a mirror image repeats.
        near: Whether looking alike is enough; otherwise only the same bytes.
    """
    written = captioned or [True] * len(looks)
    seen: dict[str, int] = {}
    order = sorted(range(len(looks)), key=lambda place: not written[place])
    for place in order:
        if looks[place].digest and not looks[place].error:
            seen.setdefault(looks[place].digest, place)
    firsts = [seen.get(look.digest, place) if not look.error else place for place, look in enumerate(looks)]
    exact = [(place, first) for place, first in enumerate(firsts) if first != place]
    if not near:
        return Repeats(exact, [])
    shown = [place for place, look in enumerate(looks) if comparable(look) and firsts[place] == place]
    hashes = hashing.as_hashes([looks[place].hashes for place in shown])
    largest = max((look.width * look.height for look in looks), default=0)
    ranks = [looks[place].width * looks[place].height + written[place] * (largest + 1) for place in shown]
    kept = hashing.first_of(hashes, threshold, mirrored=mirrored, rank=ranks).tolist()
    return Repeats(exact, [(shown[place], shown[first]) for place, first in enumerate(kept) if place != first])


def comparable(look: Look) -> bool:
    """Return whether a picture shows enough to be compared with others."""
    return not look.error and look.emptiness in ("", "text")


def duplicates(looks: Sequence[Look], found: Repeats) -> Iterator[Finding]:
    """Find pictures that are there several times."""
    said = {"exact": "are there more than once, byte for byte", "near": "look like another one (mirrored ones count)"}
    total = {place for pairs in (found.exact, found.near) for place, _ in pairs}
    for kind, words in said.items():
        pairs: list[tuple[int, int]] = getattr(found, kind)
        names = [f"{looks[place].name} = {looks[first].name}" for place, first in pairs]
        for finding in _finding("warning", f"{kind} duplicate", f"{{n}} of {{of}} pictures {words}", names, len(looks)):
            grave = len(looks) >= ENOUGH and len(total) >= SYSTEMATIC * len(looks)
            yield dataclasses.replace(finding, level="error") if grave else finding


def leaks(train: Sequence[Look], held_out: Sequence[Look]) -> list[tuple[int, int, bool]]:
    """Return (held-out picture, training picture, whether they are the same bytes) of all that are on both sides."""
    by_digest = {look.digest: place for place, look in reversed(list(enumerate(train))) if look.digest}
    held = {place: look.digest for place, look in enumerate(held_out) if look.digest and not look.error}
    places = [place for place, look in enumerate(held_out) if comparable(look)]
    table = [place for place, look in enumerate(train) if comparable(look)]
    found = match([held_out[place] for place in places], [train[place] for place in table]).tolist()
    near = {place: table[match_] for place, match_ in zip(places, found, strict=True) if match_ >= 0}
    exact = {place: by_digest[digest] for place, digest in held.items() if digest in by_digest}
    return [(place, {**near, **exact}[place], place in exact) for place in sorted({*near, *exact})]


def match(queries: Sequence[Look], table: Sequence[Look]) -> NDArray[np.intp]:
    """Return the place in ``table`` of the picture that each query looks like; -1 where there is none."""
    sides = [hashing.as_hashes([look.hashes for look in each]) for each in (queries, table)]
    return hashing.matches(sides[0], sides[1])


def leaked(
    train: Sequence[Look], held_out: Sequence[Look], found: Sequence[tuple[int, int, bool]]
) -> Iterator[Finding]:
    """Find validation pictures that are trained on."""
    said = {True: "are among the training pictures, byte for byte", False: "look like training pictures"}
    for exact, words in said.items():
        names = [f"{held_out[a].name} = {train[b].name}" for a, b, same in found if same is exact]
        level: Level = "error" if exact else "warning"
        yield from _finding(level, "leak", f"{{n}} of {{of}} validation pictures {words}", names, len(held_out))
