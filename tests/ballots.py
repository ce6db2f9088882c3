"""A small ballot of coloured squares, and raters who answer by a rule.

folder = make_ballot(tmp_path, prompts=6)
rows = answered(folder, sheet=0, choose=lambda items, question: items[1])
hand_in(folder, "ann", 0, rows)
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from brushwork.voting import answers, ballot
from brushwork.voting.ballot import Settings
from brushwork.voting.gathering import of_folders
from brushwork.voting.serving import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brushwork.voting.ballot import BallotFolder

SUBJECTS = ("cat", "dog", "tree", "house", "boat", "fish", "sun", "moon", "key", "bell")
ITEMS = ("base", "tuned", "other", "fourth")


def picture_folders(place: Path, models: int = 2, prompts: int = 6, side: int = 24) -> list[Path]:
    """Write a folder for each model, with a picture and its prompt for each subject."""
    from PIL import Image

    for number in range(models):
        folder = place / ITEMS[number]
        folder.mkdir(parents=True)
        for index, subject in enumerate(SUBJECTS[:prompts]):
            colour = (60 * number + 40, 20 * index, 255 - 60 * number)
            Image.new("RGB", (side, side), colour).save(folder / f"{index:05}-{index}.png")
            (folder / f"{index:05}-{index}.txt").write_text(f"a {subject}", "utf-8")
    return [place / name for name in ITEMS[:models]]


def make_ballot(place: Path, *, models: int = 2, prompts: int = 6, side: int = 24, **settings: Any) -> BallotFolder:
    """Make a ballot of such pictures."""
    items, cells = of_folders(picture_folders(place / "pictures", models, prompts, side))
    return ballot.make(items, cells, Settings(**settings), place / "ballot")


def answered(
    folder: BallotFolder, sheet: int, choose: Callable[[tuple[int, int], str], int | None]
) -> list[dict[str, Any]]:
    """Answer a whole sheet; ``choose`` is given the two models, left one first, and the question."""
    rows = []
    for place, (pair, left, repeat) in enumerate(folder.ballot.sheets[sheet]):
        owners = folder.key.pairs[pair]
        shown = (owners[left], owners[1 - left])
        for question in folder.ballot.questions:
            said = choose(shown, question)
            choice = "tie" if said is None else ("left", "right")[shown.index(said)]
            row = {"place": place, "pair": pair, "left": left, "repeat": repeat}
            rows.append({**row, "question": question, "choice": choice, "ms": 1000 + place})
    return rows


def hand_in(folder: BallotFolder, rater: str, sheet: int, rows: list[dict[str, Any]], path: Path | None = None) -> Path:
    """Store a rater's answers in the ballot's folder, or elsewhere."""
    path = path or answers.file_of(folder.answers, rater)
    answers.store(path, folder.ballot, rater, sheet, rows)
    return path


@contextlib.contextmanager
def serving(folder: BallotFolder, host: str = "127.0.0.1") -> Iterator[Server]:
    """Serve a ballot in a thread of this process."""
    with Server(folder, host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
