"""The report of a data set: what is in it, what is wrong with it, on one page and as JSON.

told = examine(captioned.Config(path="engravings"), resolution=64)
told.summary["level"], told.summary["findings"]
page.write(told, Path("report.html"))
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import buckets
from brushwork.curate import findings as rules
from brushwork.curate import inventory, looks
from brushwork.sources import captioned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brushwork.curate.findings import Finding, Repeats
    from brushwork.curate.looks import Look
    from brushwork.readers import Rows

COMMON = 40
"""So many of the most common words are listed."""
WORD = re.compile(r"[^\W\d_][\w'-]*")
# fmt: off
PLAIN = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "in", "into", "is", "it", "its",
    "of", "on", "or", "that", "the", "their", "there", "this", "to", "was", "were", "which", "with", "while",
))
# fmt: on
"""Words that say nothing about a data set."""
UNIT = 8


@dataclass
class Examined:
    """Everything that was found; ``summary`` is what the JSON holds."""

    path: str
    resolution: int
    rows: Rows
    looks: list[Look]
    captions: list[str | None]
    repeats: Repeats
    findings: list[Finding]
    summary: dict[str, Any]
    against: list[Look] = field(default_factory=list)
    against_rows: Rows | None = None
    leaks: list[tuple[int, int, bool]] = field(default_factory=list)


def examine(
    config: captioned.Config,
    *,
    resolution: int = 512,
    bucketed: bool = False,
    against: captioned.Config | None = None,
    token: str | None = None,
    unread: Callable[[str], str] | None = None,
) -> Examined:
    """Look at every picture and caption of a data set.

    Args:
        config: The data set.
        resolution: What it is to be trained at.
        bucketed: Whether in buckets.
        against: Validation data that must not be among these.
        token: The word that every caption is to mention.
        unread: Returns the end of a caption that a text encoder does not read; default: rough.

    Raises:
        DataError: There is no such data set, or no picture in it.
    """
    collected = inventory.collect(config)
    rows = collected.rows
    seen = [_shortly(look, config.path) for look in looks.over(rows)]
    texts, names = list(rows.captions()), [look.name for look in seen]
    repeats = rules.repeats(seen, captioned=[bool(text) for text in texts])
    found = [
        *collected.findings,
        *rules.broken(seen),
        *rules.captions(texts, names, token),
        *rules.lengths(texts, names, unread),
        *rules.duplicates(seen, repeats),
        *rules.empty(seen),
        *rules.sizes(seen, resolution, bucketed=bucketed),
        *rules.stored(seen),
    ]
    told = Examined(config.path, resolution, rows, seen, texts, repeats, found, {})
    if against is not None:
        told.against_rows = inventory.collect(against).rows
        other = looks.over(told.against_rows, "looking at validation pictures")
        told.against = [_shortly(look, against.path) for look in other]
        told.leaks = rules.leaks(seen, told.against)
        found += rules.leaked(seen, told.against, told.leaks)
    found.sort(key=lambda each: rules.LEVELS.index(each.level))
    told.summary = _summary(told, collected, unread)
    return told


def _shortly(look: Look, path: str) -> Look:
    """Name a picture from the data set's folder on: photos/cat.jpg, wherever photos lies."""
    folder = Path(path).expanduser()
    home = f"{folder.parent if folder.is_dir() else captioned.DATASETS}{os.sep}"
    return dataclasses.replace(look, name=look.name.removeprefix(home))


def _summary(told: Examined, collected: inventory.Collected, unread: Callable[[str], str] | None) -> dict[str, Any]:
    whole = [look for look in told.looks if not look.error]
    return {
        "path": told.path,
        "level": rules.worst(told.findings),
        "pictures": len(told.looks),
        "readable": len(whole),
        "bytes": sum(look.bytes for look in told.looks),
        "files": collected.files,
        "formats": dict(collections.Counter(look.format for look in whole).most_common()),
        "resolution": told.resolution,
        "sizes": _sizes(whole),
        "square": _losses([(look, (told.resolution, told.resolution)) for look in whole]),
        "buckets": bucket_table(whole, told.resolution),
        "captions": caption_statistics(told.captions, unread),
        "duplicates": {
            kind: [[told.looks[place].name for place in pair] for pair in getattr(told.repeats, kind)]
            for kind in ("exact", "near")
        },
        "leaks": [[told.against[a].name, told.looks[b].name] for a, b, _ in told.leaks],
        "licences": collected.licences,
        "findings": [dataclasses.asdict(each) for each in told.findings],
    }


def _sizes(whole: Sequence[Look]) -> dict[str, Any]:
    """Return the smallest, the median and the largest width and height."""
    if not whole:
        return {}
    sides = {"width": sorted(look.width for look in whole), "height": sorted(look.height for look in whole)}
    return {name: [values[0], values[len(values) // 2], values[-1]] for name, values in sides.items()}


def _losses(pairs: Sequence[tuple[Look, tuple[int, int]]]) -> dict[str, float]:
    """Return what bringing pictures to their sizes loses: the mean share cropped, and how many are enlarged."""
    if not pairs:
        return {"cropped": 0.0, "enlarged": 0}
    lost = [buckets.lost((look.width, look.height), size) for look, size in pairs]
    return {
        "cropped": round(sum(share for share, _ in lost) / len(lost), 4),
        "enlarged": sum(scale > 1 for _, scale in lost),
    }


def bucket_table(whole: Sequence[Look], resolution: int) -> list[dict[str, Any]]:
    """Return the buckets that pictures would be in, the fullest first; the size is null for those too small for any."""
    step = buckets.usual_step(resolution, UNIT)
    held: dict[tuple[int, int], list[Look]] = {}
    for look in whole:
        held.setdefault(buckets.fit((look.width, look.height), resolution, step), []).append(look)
    return [
        {"size": list(size) if all(size) else None, "count": len(each), "share": round(len(each) / len(whole), 4)}
        | (_losses([(look, size) for look in each]) if all(size) else {})
        for size, each in sorted(held.items(), key=lambda pair: -len(pair[1]))
    ]


def caption_statistics(texts: Sequence[str | None], unread: Callable[[str], str] | None) -> dict[str, Any]:
    """Return how long captions are, how many differ, and their most common words."""
    given = [text for text in texts if text]
    words = collections.Counter(
        word for text in given for word in {each.lower() for each in WORD.findall(text)} - PLAIN
    )
    counts = sorted(len(text.split()) for text in given)
    repeated = [(text, count) for text, count in collections.Counter(given).most_common(10) if count > 1]
    return {
        "given": len(given),
        "missing": len(texts) - len(given),
        "different": len(set(given)),
        "words": [counts[0], counts[len(counts) // 2], counts[-1]] if counts else [],
        "tokens": "by the tokenizer" if unread else "at least, by CLIP's word boundaries",
        "repeated": [{"caption": text, "count": count} for text, count in repeated],
        "common": [{"word": word, "count": count} for word, count in words.most_common(COMMON)],
    }
