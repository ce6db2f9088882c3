"""The data report of a data set for the studio: findings with the pictures that they are about, under names of ours.

    examiner = Examiner(datasets, places)
    examiner.report("holiday", resolution=512)["findings"]
    examiner.page("holiday", resolution=512)        # the whole report, one self-contained page

It is what ``brushwork data report`` says. A report stays known until a file of the data set changes.
"""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork.readers import folder as folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brushwork.curate.report import Examined
    from brushwork.serve.datasets import Datasets
    from brushwork.serve.places import Places

KNOWN = 8
"""So many reports are remembered."""


class Examiner:
    """Looks at one data set at a time."""

    def __init__(self, datasets: Datasets, places: Places) -> None:
        self.datasets, self.places = datasets, places
        self._known: dict[tuple[str, int], tuple[object, Examined]] = {}
        self._one = threading.Lock()

    def report(self, name: str, resolution: int) -> dict[str, Any]:
        """Return what was found, gravest first, each with the names of its pictures; and what repeats what.

        Raises:
            DataError: There is no such data set, or no picture in it.
        """
        told = self._examined(name, resolution)
        pictures = {look.name: Path(look.name).name for look in told.looks}
        findings = [
            {
                "level": each.level,
                "kind": each.kind,
                "message": each.message,
                "count": each.count,
                "of": each.of,
                "pictures": list(dict.fromkeys(one for text in each.names for one in _named(text, pictures))),
            }
            for each in told.findings
        ]
        repeats = [
            {"picture": pictures[told.looks[place].name], "keep": pictures[told.looks[first].name], "kind": kind}
            for kind in ("exact", "near")
            for place, first in getattr(told.repeats, kind)
        ]
        about = {key: told.summary[key] for key in ("level", "pictures", "readable", "bytes", "sizes", "captions")}
        return {"name": name, "resolution": resolution, **about, "findings": findings, "duplicates": repeats}

    def page(self, name: str, resolution: int) -> str:
        """Return the report's page."""
        from brushwork.curate import page

        return page.render(self._examined(name, resolution))

    def _examined(self, name: str, resolution: int) -> Examined:
        from brushwork.curate import report
        from brushwork.sources import captioned

        path = self.datasets.path_of(name)
        with self._one:
            state = _state(self.datasets.find(name))
            there = self._known.get((name, resolution))
            if there is not None and there[0] == state:
                return there[1]
            told = report.examine(captioned.Config(path=path), resolution=resolution)
            said = [dataclasses.replace(each, message=self.places.hide(each.message)) for each in told.findings]
            told = dataclasses.replace(told, path=name, findings=said)
            told.summary |= {"path": name, "findings": [dataclasses.asdict(each) for each in said]}
            self._known[name, resolution] = (state, told)
            while len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]
            return told


def _state(folder: Path) -> object:
    """Return what is another when a file of a folder is."""
    every = (Path(each) for each in folders.walk(folder))
    return sorted((str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in every)


def _named(text: str, pictures: Mapping[str, str]) -> list[str]:
    """Return the pictures that a finding's line names: ``A``, ``A = B``, or ``A: what is wrong``."""
    found = []
    for part in text.split(" = "):
        name = part if part in pictures else part.partition(": ")[0]
        found += [pictures[name]] if name in pictures else []
    return found
