"""Writing captions by a model that describes pictures; what was there is kept, replaced, or kept beside the new ones.

    told = caption("photos", load_captioner("mini-captioner"), Wish(trigger="sks"))

What the model said is written down in a hidden journal as it goes on; a run that is killed goes on from there. Only in
the end are captions put in their places: beside the pictures or into the table, each file in one step, the former one
kept as ``cat.txt.bak``; or with ``out`` into a new folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from brushwork import images
from brushwork.curate import inventory, layouts
from brushwork.errors import ConfigError, DataError, listing
from brushwork.progress import bar
from brushwork.readers import columns, metadata
from brushwork.readers import folder as folders
from brushwork.runs import check_free, replacing
from brushwork.sources import captioned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brushwork.captioners import Captioner
    from brushwork.readers import Rows

Mode = Literal["missing", "replace", "add"]
BATCH = 16


@dataclass(frozen=True)
class Wish:
    """What is to be written.

    Args:
        mode: Captions that are missing only; all anew; or a new one beside each that is there.
        prefix: Put before what the model says, as it is.
        suffix: Put behind it.
        trigger: A word that stands first, unless the model said it itself.
    """

    mode: Mode = "missing"
    prefix: str = ""
    suffix: str = ""
    trigger: str = ""

    def dress(self, said: str) -> str:
        """Return the caption that becomes of what the model said."""
        text = " ".join(f"{self.prefix}{said}{self.suffix}".split())
        lacking = self.trigger and self.trigger.lower() not in text.lower().split()
        return f"{self.trigger}, {text}" if lacking else text


def caption(
    path: str, captioner: Captioner, wish: Wish, *, out: Path | None = None, layout: layouts.Layout = "jsonl",
    batch: int = BATCH, **columns: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Caption a data set; return how many captions were written and which pictures could not be read.

    Args:
        path: The data set.
        captioner: What describes pictures.
        wish: What is to be written.
        out: A new folder; default: the captions' own places in the folder ``path``.
        layout: Of ``out``.
        batch: Pictures at a time.
        columns: Where pictures and captions are, as ``inventory.open_rows`` takes it.

    Raises:
        DataError: There is no such data set, or it is not a folder of pictures and no ``out`` is given.
        ConfigError: Second captions have no place in text files.
    """
    if out is not None:
        check_free(out)
    rows, home = inventory.open_rows(path, **columns)
    place = _place(path, rows, home, wish) if out is None else None
    existing = list(rows.captions())
    wanted = [index for index, text in enumerate(existing) if wish.mode != "missing" or not text]
    header = {"model": captioner.revision, "preprocessing": captioner.preprocessing}
    journal = Journal(out.parent / f".{out.name}.journal" if out else Path(home) / ".captions.journal", header)
    broken = _describe(rows, wanted, captioner, journal, batch)
    said = {index: wish.dress(journal.said[rows[index].name]) for index in wanted if rows[index].name in journal.said}
    if out is not None:
        layouts.write(_entries(rows, home, said, wish, set(broken)), out, layout)
    elif place is not None:
        place(said)
    journal.close()
    return {"captioned": len(said), "kept": len(existing) - len(wanted), "broken": sorted(broken.values())}


class Journal:
    """What a model said about each picture, a line each, for whoever goes on after a kill."""

    def __init__(self, path: Path, header: dict[str, str]) -> None:
        self.path, self.said = path, {}
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        rows = list(_whole(lines))
        if rows and rows[0] == header:
            self.said = dict(rows[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:  # without what another model said, and without half a line
            written = [header, *([name, text] for name, text in self.said.items())]
            temporary.write_text("".join(f"{json.dumps(row)}\n" for row in written), "utf-8")

    def add(self, said: dict[str, str]) -> None:
        """Write down what was said about some pictures."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps([name, text])}\n" for name, text in said.items())
            file.flush()
            os.fsync(file.fileno())
        self.said |= said

    def close(self) -> None:
        """Everything is in its place: throw it away."""
        self.path.unlink()


def _whole(lines: Sequence[str]) -> Iterator[Any]:
    """Yield rows until one that a kill cut short."""
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def _describe(rows: Rows, wanted: Sequence[int], captioner: Captioner, journal: Journal, batch: int) -> dict[int, str]:
    """Ask the model about what is not in the journal yet; return the pictures that cannot be read."""
    broken: dict[int, str] = {}
    waiting = [index for index in wanted if rows[index].name not in journal.said]
    with bar("captioning", len(wanted), start=len(wanted) - len(waiting)) as advance:
        for first in range(0, len(waiting), batch):
            part = waiting[first : first + batch]
            opened = {}
            for index in part:
                row = rows[index]
                try:
                    opened[row.name] = images.decode(row.image.read(), name=row.name)
                except DataError as error:
                    broken[index] = str(error)
            if opened:
                journal.add(dict(zip(opened, captioner.describe(list(opened.values())), strict=True)))
            advance(len(part))
    return broken


def _entries(rows: Rows, home: str, said: dict[int, str], wish: Wish, broken: set[int]) -> Iterator[layouts.Entry]:
    """Yield what goes to the new folder; pictures that cannot be read stay behind."""
    places = [index for index in range(len(rows)) if index not in broken]
    for index, entry in zip(places, layouts.entries(rows, places, home), strict=True):
        former = entry.captions if wish.mode != "replace" or index not in said else ()
        new = (said[index],) if index in said else ()
        texts = tuple(dict.fromkeys((*former, *new)))
        yield layouts.Entry(entry.name, entry.image, texts, entry.where, entry.mask)


def _place(path: str, rows: Rows, home: str, wish: Wish) -> Any:
    """Return the function that puts captions where those of a folder are.

    Raises:
        DataError: These are no pictures in a folder of the user's own.
        ConfigError: Second captions have no place in text files.
    """
    from brushwork.readers import arrow

    folder = Path(home or ".")
    embedded = captioned.DATASETS in folder.resolve().parents
    if not home or embedded or arrow.is_saved(folder) or captioned.is_shards(list(folders.walk(folder))):
        message = f"{path} is not a folder of pictures to write captions into. Write a new one: --out FOLDER"
        raise DataError(message)
    table = metadata.find(folder)
    if table is None and wish.mode == "add":
        message = f"{path} has its captions in text files, which hold one each. Keep both in a new folder: --out FOLDER"
        raise ConfigError(message)
    if table is None:
        return lambda said: _beside(rows, said)
    if table.suffix == ".csv" and wish.mode == "add":
        message = f"{table} holds one caption for each picture. Keep both in a new folder: --out FOLDER"
        raise ConfigError(message)
    return lambda said: _into(table, rows, said, wish)


def _beside(rows: Rows, said: dict[int, str]) -> None:
    """Write text files beside the pictures; what is replaced is kept as ``.bak``."""
    for index, text in said.items():
        stem = Path(folders.stem(rows[index].name))
        possible = [stem.with_name(f"{stem.name}{ending}") for ending in folders.CAPTIONS]
        path = next((each for each in possible if each.is_file()), possible[0])
        _write(path, f"{text}\n")


def _write(path: Path, text: str) -> None:
    """Write a file in one step; its former self is kept."""
    if path.is_file():
        if path.read_text("utf-8", errors="replace") == text:
            return
        keep(path)
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def keep(path: Path) -> Path:
    """Keep a copy of a file as ``.bak``, ``.bak2`` and so on, never over another."""
    number = 1
    while (copy := path.with_name(f"{path.name}.bak{number if number > 1 else ''}")).exists():
        number += 1
    with replacing(copy) as temporary:
        temporary.write_bytes(path.read_bytes())
    return copy


def _into(table: Path, rows: Rows, said: dict[int, str], wish: Wish) -> None:
    """Write captions into the table of a folder; its former self is kept."""
    entries = metadata.entries(table)
    names = list(dict.fromkeys(name for _, row in entries for name in row))
    image = columns.choose(names, columns.usual(names, None, columns.FILES), None, columns.FILES, str(table))
    others = [name for name in names if name != image]
    column = columns.choose(names, others, None, columns.CAPTIONS, str(table)) if others else "text"
    if len(entries) != len(rows):
        message = f"{table} changed while captions were written: {len(entries)} rows where there were {len(rows)}."
        raise DataError(message)
    changed = []
    for index, (_, row) in enumerate(entries):
        former = row.get(column)
        every = [*(former if isinstance(former, list) else [former] if former else []), said.get(index, "")]
        both = list(dict.fromkeys(text for text in every if text))
        new = (both if len(both) > 1 else both[0]) if wish.mode == "add" and index in said else said.get(index, former)
        changed.append({**row, column: new})
    keep(table)
    with replacing(table) as temporary:
        layouts.write_table(changed, temporary)


def summary(told: dict[str, Any]) -> str:
    """Say for people what was done."""
    broken = f"; {len(told['broken'])} pictures cannot be read: {listing(told['broken'])}" if told["broken"] else ""
    return f"{told['captioned']} captions written, {told['kept']} kept{broken}"
