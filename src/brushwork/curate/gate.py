"""A look at the data before training, at no cost of its own: pictures are decoded to be checked in any case.

    looked = verify(source)                     # every picture, once
    warnings = judge(looked, config, data, family)

What ``brushwork data report`` would say is said here, too, as far as it shows without decoding anything twice; a
finding of level error stops the run unless ``data.allow_findings`` is set. Of more than 20,000 pictures only the
headers are read, so nothing that needs pixels is found.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from brushwork import progress
from brushwork.curate import findings
from brushwork.curate.looks import Gathered
from brushwork.errors import DataError
from brushwork.sources import captioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.config import Config
    from brushwork.curate.findings import Finding
    from brushwork.curate.looks import Look
    from brushwork.encoding import Data
    from brushwork.values import Family, Sample, Source

CAPTIONS = 20_000
"""At most so many captions are compared, and counted by their tokens."""


def verify(source: Source) -> Gathered:
    """Check every picture of a source, and look at it while it is decoded.

    Raises:
        DataError: Pictures cannot be used.
    """
    gathered = Gathered()
    check = getattr(source, "verify", None)
    if check is not None:
        check(gathered)
    return gathered


def judge(looked: Gathered, config: Config, data: Data, family: Family) -> list[str]:
    """Print what was found, and return what is more than a note, a line each.

    Raises:
        DataError: Training would be in vain, and the user did not say that it shall be done all the same.
    """
    found = _found(looked, config, data, family)
    errors = [each for each in found if each.level == "error"]
    settings: Any = config.data
    if errors and not settings.allow_findings:
        message = (
            f"The data are not fit to train on: {'; '.join(each.line().removeprefix('error: ') for each in errors)}.\n"
            f"Look at them: brushwork data report {settings.path}\n"
            f"To train on them all the same: data.allow_findings=true"
        )
        raise DataError(message)
    for each in found:
        progress.note(each.line())
    return [each.line() for each in found if each.level != "note"]


def _found(looked: Gathered, config: Config, data: Data, family: Family) -> list[Finding]:
    settings: Any = config.data
    looks = [looked.looks[name] for name in sorted(looked.looks)]  # threads looked in no particular order
    own, source = len(data.source) - data.drawn, data.source
    streamed = getattr(source, "streaming", False)
    first = itertools.islice((source[index] for index in range(len(source.head) if streamed else own)), CAPTIONS)  # type: ignore[attr-defined]
    samples = list(first)
    captions = dict.fromkeys(text for sample in samples for text in sample.captions)
    held_out, train = _sides(looks, looked, data)
    return [
        *findings.empty(looks),
        *findings.sizes(looks, settings.resolution, bucketed=settings.buckets),
        *findings.duplicates(looks, findings.repeats(looks)),
        *findings.leaked(train, held_out, findings.leaks(train, held_out)),
        *(_repeated(samples) if isinstance(settings, captioned.Config) else ()),
        *findings.lengths(list(captions), [repr(text) for text in captions], family.unread),
    ]


def _repeated(samples: Sequence[Sample]) -> list[Finding]:
    """Find captions that several pictures have; what is missing or always the same, the source itself refuses."""
    texts, names = [sample.caption for sample in samples], [sample.name for sample in samples]
    return [each for each in findings.captions(texts, names) if each.kind == "repeated caption"]


def _sides(looks: Sequence[Look], looked: Gathered, data: Data) -> tuple[list[Look], list[Look]]:
    """Return the looks at the pictures that are held out, and those at the others."""
    names = {data.source[index].name for index in data.held_out}
    held_out = [looked.looks[name] for name in sorted(names) if name in looked.looks]
    return held_out, [look for look in looks if look.name not in names] if held_out else []
