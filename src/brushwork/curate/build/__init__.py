"""``brushwork data build``: from a table of addresses and captions to a data set.

    from brushwork.curate.build import build
    from brushwork.curate.build.settings import load

    summary = build(load(metadata=["laion/*.parquet"], presets=["laion"]), Path("data"))

Four stages. *Select* gives every row of the metadata a code (:mod:`.selection`). *Fetch and standardise* does the
selected rows in parts, by an engine (:mod:`.local`, :mod:`.cluster`); a part that is done is a file. *Write* leaves out
what looks like something before, and writes pictures, manifest and card (:mod:`.output`, :mod:`.card`). *Finish* writes
``build.json`` and removes the working folder ``.build``. Each stage leaves whole files only, and does again what has
none: a build that was killed goes on where it was, and ends in the same bytes.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from brushwork import __version__, progress
from brushwork.curate.build import output
from brushwork.curate.build.card import card
from brushwork.curate.build.fetching import client
from brushwork.curate.build.selection import check, select
from brushwork.curate.build.settings import BuildConfig, load, to_yaml
from brushwork.curate.build.tables import find
from brushwork.curate.resizing import opencv
from brushwork.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from brushwork.curate.build.selection import Selection

RECIPE, SUMMARY, STATE = "build.yaml", "build.json", ".build"


def build(config: BuildConfig, out: Path) -> dict[str, Any]:
    """Build a data set in a new folder.

    Returns:
        What ``build.json`` says: rows, kept, how many of each fate, seconds.

    Raises:
        UserError: The request cannot be carried out; nothing is left behind.
        RunFailed: It broke; :func:`resume` goes on.
    """
    if out.is_file() or (out.is_dir() and any(each.name != STATE for each in out.iterdir())):
        hint = (
            " Add --resume to go on with it, or choose another folder."
            if (out / RECIPE).is_file()
            else " Choose another."
        )
        message = f"--out: {str(out)!r} exists and is not empty.{hint}"
        raise UserError(message)
    _find_libraries(config)
    tables = find(config.metadata)
    fresh = not out.is_dir()
    state = out / STATE
    try:
        state.mkdir(parents=True, exist_ok=True)
        check(config, tables, state)
    except UserError:
        shutil.rmtree(out if fresh else state)
        raise
    _replace(out / RECIPE, to_yaml(config))
    return _go_on(config, out)


def _find_libraries(config: BuildConfig) -> None:
    """Import what will be needed before anything is written."""
    from brushwork.curate.build import cluster

    opencv()
    client()
    if config.engine.type == "ray":
        cluster.library()


def resume(out: Path) -> dict[str, Any]:
    """Go on with the build in a folder, from its own settings; of one that is complete, return what it came to.

    Raises:
        UserError: There is none, or another process works on it.
    """
    if not (out / RECIPE).is_file():
        message = f"--resume: {str(out)!r} holds no build (no {RECIPE} in it). Begin one without --resume."
        raise UserError(message)
    return _go_on(load(out / RECIPE), out)


def _go_on(config: BuildConfig, out: Path) -> dict[str, Any]:
    if not (out / SUMMARY).is_file():
        state = out / STATE
        with _locked(state):
            _stages(config, state, out)
    shutil.rmtree(out / STATE, ignore_errors=True)
    summary: dict[str, Any] = json.loads((out / SUMMARY).read_text("utf-8"))
    return summary


def _stages(config: BuildConfig, state: Path, out: Path) -> None:
    began = time.monotonic()
    started = datetime.datetime.now(datetime.timezone.utc)
    selection = select(config, find(config.metadata), state / "selection")
    counts = selection.counts()
    progress.note(f"{counts['']} of {sum(selection.rows)} rows are to be fetched.")
    paths = _fetch(config, selection, counts[""], state)
    tally = output.write_pictures(config, paths, state, out)
    fates = output.write_manifest(config, selection, state, out / "manifest.parquet")
    _replace(out / "README.md", card(config, selection, fates, tally))
    summary = {
        "rows": sum(selection.rows),
        "kept": fates.get("kept", 0),
        "fates": fates,
        "bytes": tally.bytes,
        "format": config.output.format,
        "seconds": round(time.monotonic() - began, 1),
        "started": started.isoformat(timespec="seconds"),
        "brushwork": __version__,
    }
    _replace(out / SUMMARY, json.dumps(summary, indent=2) + "\n")


def _fetch(config: BuildConfig, selection: Selection, total: int, state: Path) -> list[Path]:
    """Process all parts that are not done; return the files of all parts in order."""
    import pyarrow.parquet as pq

    from brushwork.curate.build import cluster, local

    folder = state / "parts"
    folder.mkdir(exist_ok=True)
    paths: list[Path] = []
    done = sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))

    def todo() -> Iterator[tuple[int, pa.Table]]:
        for number, rows in enumerate(selection.parts(config.engine.part_size)):
            paths.append(folder / f"{number:07d}.parquet")
            if not paths[-1].is_file():
                yield number, rows

    def keep(number: int, table: pa.Table) -> None:
        # Pictures are packed already.
        packed = {name: "none" if name == "image" else "snappy" for name in table.column_names}
        temporary = folder / f"{number:07d}.part"
        pq.write_table(table, temporary, compression=packed)
        temporary.replace(folder / f"{number:07d}.parquet")

    with progress.bar("fetching pictures", total, done) as advance:
        engine = {"local": local, "ray": cluster}[config.engine.type]
        engine.run(config, todo(), keep, _ticker(advance))
    return paths


def _ticker(advance: progress.Advance) -> Callable[[str, int], None]:
    """Return what is called for each row: it moves the bar and says how fast it goes."""
    began, rows, taken, size = time.monotonic(), 0, 0, 0

    def tick(reason: str, read: int) -> None:
        nonlocal rows, taken, size
        rows, taken, size = rows + 1, taken + (not reason), size + read
        seconds = max(1e-3, time.monotonic() - began)
        advance(1, f"{rows / seconds:.1f} rows/s, {size / seconds / 1e6:.2f} MB/s, {100 * taken / rows:.0f} % taken")

    return tick


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Let no other process work on the build; the lock goes with the process that holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{state.parent}: another process is working on this build. Wait for it, or stop it."
            raise UserError(message) from None
        yield


def _replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    temporary = path.parent / STATE / f"{path.name}.part"
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
