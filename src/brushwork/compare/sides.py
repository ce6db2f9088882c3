"""Sides of a comparison: each draws the same prompts at the same seeds into a folder of its own.

    side = Side("tuned", "mini+my-lora")
    drawn = draw(side, wanted, folder)          # folder/00000-0.png ... and folder/side.json, which says what drew them

What is there already, from the same weights with the same requests, is not drawn again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from brushwork import generate, infotext
from brushwork.compare import proof
from brushwork.compare.drawers import identity
from brushwork.compare.sweeps import swap
from brushwork.progress import bar, note
from brushwork.runs import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brushwork.compare.drawers import Drawer, Opener
    from brushwork.metrics import PromptSet
    from brushwork.settings import Sampling, ValidationConfig

RECORD = "side.json"


@dataclass(frozen=True)
class Wanted:
    """What every side draws: ``seeds`` pictures of each prompt, target prompts first.

    ``concept`` are the words in prompts that name what was learnt; a side with a word of its own draws that in their
    place, and the judge (and a base) reads ``means`` instead.
    """

    target: tuple[str, ...]
    control: tuple[str, ...]
    seeds: int
    validation: ValidationConfig
    size: tuple[int | None, int | None] = (None, None)
    concept: str | None = None
    means: str | None = None
    said: frozenset[str] = frozenset()
    """The fields of a request that the user gave, which no model may change."""

    @property
    def prompt_sets(self) -> Iterator[tuple[PromptSet, range]]:
        """Each set of prompts with the places of its prompts; without control prompts there is one."""
        yield "target", range(len(self.target))
        if self.control:
            yield "control", range(len(self.target), len(self.target) + len(self.control))

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts, as they were written."""
        return (*self.target, *self.control)


@dataclass(frozen=True)
class Side:
    """One column of the comparison. ``word`` is its own name for the concept; ``changes`` are fields of a request."""

    label: str
    model: str
    key: str
    word: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    swaps: tuple[tuple[str, str], ...] = ()
    at: dict[str, str] = field(default_factory=dict)
    """Its place in a sweep: value by axis."""
    row: str = ""
    """Sides of one row are training runs of one method that differ in the seed; default: the label."""
    optimised: str | None = None
    """The revision of the CLIP model that its training loss optimised."""

    @property
    def line(self) -> str:
        """The row of the table that it belongs to."""
        return self.row or self.label


@dataclass(frozen=True)
class DrawnSide:
    """A side with its pictures; ``record`` is its side.json."""

    side: Side
    folder: Path
    names: tuple[str, ...]
    record: dict[str, Any]

    @property
    def noise(self) -> str | None:
        """What must be equal for a seed to give two sides the same starting noise; None: nothing can be."""
        noise: str | None = self.record["noise"]
        return noise

    @property
    def seconds_per_picture(self) -> float | None:
        """How long a picture took when they were last drawn."""
        speed = self.record["speed"]
        return speed["seconds"] / speed["pictures"] if speed["pictures"] else None


def prompt_of(side: Side, text: str, wanted: Wanted) -> str:
    """Return a prompt as a side draws it."""
    return swap(text.replace(wanted.concept, side.word) if wanted.concept and side.word else text, side.swaps)


def text_of(side: Side, text: str, wanted: Wanted) -> str:
    """Return a prompt as the judge reads it: the same for every side of the same words."""
    return swap(text.replace(wanted.concept, wanted.means) if wanted.concept and wanted.means else text, side.swaps)


def requests(side: Side, wanted: Wanted, sampling: Sampling | None = None) -> list[generate.Request]:
    """Return what a side draws; ``sampling`` is how its model was made to be drawn."""
    asked = wanted.validation
    given = {
        "negative_prompt": asked.negative_prompt,
        "steps": asked.num_inference_steps,
        "guidance_scale": asked.guidance_scale,
        "sampler": asked.sampler,
    }
    width, height = wanted.size
    known: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    usual = generate.Request(prompt="", width=width, height=height, **known)
    own = {} if sampling is None else {key: v for key, v in asdict(sampling).items() if key not in wanted.said}
    if own.get("guidance_scale") in (0, 1):
        own["negative_prompt"] = ""  # there is nothing to steer away with
    base = replace(usual, **own | side.changes)
    return [
        replace(base, prompt=prompt_of(side, text, wanted), seed=asked.seed + place * wanted.seeds + number)
        for place, text in enumerate(wanted.prompts)
        for number in range(wanted.seeds)
    ]


def names(wanted: Wanted) -> tuple[str, ...]:
    """Return the file names, ``<prompt>-<seed>.png``, the same for every side."""
    seeds, first = wanted.seeds, wanted.validation.seed
    count = len(wanted.prompts) * seeds
    return tuple(f"{place // seeds:05}-{first + place}.png" for place in range(count))


def draw(side: Side, wanted: Wanted, folder: Path, opener: Opener) -> DrawnSide:
    """Draw what is missing of a side; return it with its record."""
    files, weights = names(wanted), identity(side.model)
    record = _stored(folder / RECORD)
    sampling = _sampling(record)
    listed = [_json(each) for each in requests(side, wanted, sampling)]
    same = record is not None and record["weights"] == weights and record["requests"] == listed
    missing = [place for place, name in enumerate(files) if not (same and (folder / name).is_file())]
    if not missing and record is not None:
        note(f"{side.label}: all {len(files)} pictures are there already, drawn by the same weights")
        return DrawnSide(side, folder, files, record)
    drawer = opener(side.model)
    every = requests(side, wanted, drawer.sampling)
    if not same:
        for old in folder.glob("*.png"):
            old.unlink()
    record = {
        "label": side.label,
        "model": side.model,
        "weights": weights,
        "noise": drawer.noise(every[0]),
        "sampling": None if drawer.sampling is None else asdict(drawer.sampling),
        "requests": [_json(each) for each in every],
        "facts": drawer.facts,
        "speed": {"pictures": 0, "seconds": 0.0},
        "proof": None,
    }
    write_json(folder / RECORD, record)
    record["speed"] = _draw(drawer, {files[place]: every[place] for place in missing}, folder, side.label)
    write_json(folder / RECORD, record)
    return DrawnSide(side, folder, files, record)


def _draw(drawer: Drawer, named: dict[str, generate.Request], folder: Path, label: str) -> dict[str, Any]:
    began = time.monotonic()
    with bar(f"drawing {label}", len(named)) as advance:
        for name, picture in zip(named, drawer.draw(list(named.values())), strict=True):
            infotext.save_png(picture, folder / name)
            advance()
    return {"pictures": len(named), "seconds": time.monotonic() - began}


def prove(drawn: DrawnSide, opener: Opener, without: DrawnSide | None, alone: Callable[[], DrawnSide | None]) -> Any:
    """Show that a side's adapters are active, once; None for a model without any.

    Args:
        drawn: The side, which has its pictures.
        opener: Opens its model, whose weights are merged in the course of this.
        without: The same prompts by its base, if they are drawn already.
        alone: Draws the first of them by its base otherwise.
    """
    record = drawn.record
    if record["proof"] is None:
        opener.forget()  # the norms are taken by merging, so nobody may draw with it afterwards
        measured = proof.norms(drawn.side.model, device="cpu")
        beside = without or alone() if measured["parts"] or measured["words"] else None
        record["proof"] = measured | proof.pixels(drawn.folder, beside.folder if beside else None, drawn.names)
        write_json(drawn.folder / RECORD, record)
    return record["proof"]


def _json(request: generate.Request) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(asdict(request)))
    return stored


def _sampling(record: dict[str, Any] | None) -> Sampling | None:
    from brushwork.settings import Sampling

    found = record["sampling"] if record else None
    return Sampling(**found) if found else None


def _stored(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
