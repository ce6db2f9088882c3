"""What raters answered: one JSON file for each rater, the same from the local page and from a bundle.

    answers = load(folder, [Path("ben.json")])      # those in the ballot's folder, and those that were sent in
    answers[0].rater, answers[0].pair, answers[0].choice

    {"format": "brushwork answers 1", "ballot": "<hash>", "rater": "ann", "sheet": 0, "answers": [
      {"place": 0, "pair": 4, "left": 1, "repeat": false, "question": "overall", "choice": "left", "ms": 2140}]}

An answer that does not agree with the ballot was given to another one, or was changed, and is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from brushwork.errors import UserError, listing
from brushwork.runs import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from brushwork.voting.ballot import Ballot, BallotFolder

FORMAT = "brushwork answers 1"
CHOICES = ("left", "right", "tie")
LONGEST_NAME = 60
LONGEST_TIME = 86_400_000
"""Milliseconds of a day; whoever looked longer was away."""

Choice = Literal["left", "right", "tie"]


@dataclass(frozen=True)
class Answer:
    """One answer to one question; ``place`` counts through the rater's sheet."""

    rater: str
    place: int
    pair: int
    left: int
    repeat: bool
    question: str
    choice: Choice
    ms: int

    @property
    def picture(self) -> int | None:
        """The place of the preferred picture in its pair; None for a tie."""
        return None if self.choice == "tie" else self.left if self.choice == "left" else 1 - self.left


def check(row: Any, ballot: Ballot, sheet: int, rater: str) -> Answer:
    """Return one answer as it was given.

    Raises:
        UserError: It does not agree with the ballot.
    """
    keys = {"place", "pair", "left", "repeat", "question", "choice", "ms"}
    if not isinstance(row, dict) or set(row) != keys:
        message = f"an answer has {', '.join(sorted(keys))}, but this one is {str(row)[:80]}"
        raise UserError(message)
    place, trials = row["place"], ballot.sheets[sheet]
    if type(place) is not int or not 0 <= place < len(trials):
        message = f"place {place!r} is not on sheet {sheet}, which has {len(trials)}"
        raise UserError(message)
    trial = trials[place]
    said = (row["pair"], row["left"], row["repeat"])
    if said != tuple(trial):
        message = (
            f"place {place} of sheet {sheet} shows pair {trial.pair} with picture {trial.left} at the left, "
            f"but the answer says pair {said[0]!r} with picture {said[1]!r}"
        )
        raise UserError(message)
    asked = row["question"] if isinstance(row["question"], str) else ""
    if asked not in ballot.questions or row["choice"] not in CHOICES:
        message = f"place {place}: {row['question']!r} or {row['choice']!r} is not on the ballot"
        raise UserError(message)
    if type(row["ms"]) is not int or not 0 <= row["ms"] <= LONGEST_TIME:
        message = f"place {place}: {row['ms']!r} is no time in milliseconds"
        raise UserError(message)
    return Answer(rater, place, trial.pair, trial.left, trial.repeat, asked, cast("Choice", row["choice"]), row["ms"])


def name_of(rater: Any) -> str:
    """Return a rater's name or code without the spaces around it.

    Raises:
        UserError: It is empty, too long, or has characters that cannot be read.
    """
    name = " ".join(rater.split()) if isinstance(rater, str) else ""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        message = f"A name or code has 1 to {LONGEST_NAME} letters, but this one is {str(rater)[:80]!r}."
        raise UserError(message)
    return name


def file_of(folder: Path, rater: str) -> Path:
    """Return where a rater's answers are stored: a readable name, and a hash that keeps names apart."""
    readable = re.sub(r"[^a-z0-9]+", "-", rater.lower()).strip("-")[:24]
    digest = hashlib.blake2b(rater.encode(), digest_size=4).hexdigest()
    return folder / f"{readable or 'rater'}-{digest}.json"


def stored(path: Path) -> dict[str, Any] | None:
    """Return what a file of answers holds; None where there is none."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def store(path: Path, ballot: Ballot, rater: str, sheet: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a rater's answers in one step."""
    told = {"format": FORMAT, "ballot": ballot.hash, "rater": rater, "sheet": sheet, "answers": [dict(r) for r in rows]}
    write_json(path, told)


def load(folder: BallotFolder, files: Iterable[Path] = ()) -> list[Answer]:
    """Return the answers in a ballot's folder together with those in other files or folders.

    Answers of one name in several files are put together: someone who downloaded twice counts once.

    Raises:
        UserError: A file holds no answers, answers another ballot, or was changed; two people used one name; or there
            are no answers.
    """
    found: dict[tuple[str, int, str], tuple[Answer, Path]] = {}
    sheets: dict[str, tuple[int, Path]] = {}
    for path in _files(folder, files):
        for sheet, answer in _read(path, folder.ballot):
            before, where = sheets.setdefault(answer.rater, (sheet, path))
            key = (answer.rater, answer.place, answer.question)
            known, known_at = found.setdefault(key, (answer, path))
            if before != sheet or known.choice != answer.choice:
                message = (
                    f"{answer.rater!r} answered differently in {where if before != sheet else known_at} and in {path}. "
                    f"If these are two people, change the name in one of the files; else leave one out."
                )
                raise UserError(message)
    if not found:
        message = f"{folder.path}: there are no answers yet. Vote with: brushwork vote {folder.path}"
        raise UserError(message)
    return [answer for _, (answer, _) in sorted(found.items(), key=lambda each: each[0])]


def _files(folder: BallotFolder, files: Iterable[Path]) -> list[Path]:
    places = [folder.answers, *files]
    missing = [str(path) for path in places[1:] if not path.exists()]
    if missing:
        message = f"There is no {listing(missing)}. Name the files that raters sent, or a folder of them."
        raise UserError(message)
    every = [each for path in places for each in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    return list({each.resolve(): each for each in every if each.is_file()}.values())


def _read(path: Path, ballot: Ballot) -> list[tuple[int, Answer]]:
    try:
        told = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is no file of answers: {error}"
        raise UserError(message) from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        message = f"{path} is no file of answers: it does not say that it is {FORMAT!r}."
        raise UserError(message)
    if told.get("ballot") != ballot.hash:
        message = (
            f"{path} answers another ballot ({str(told.get('ballot'))[:12]}) than this one ({ballot.hash[:12]}): it is "
            f"foreign, or its bundle was changed. Its votes cannot be counted here."
        )
        raise UserError(message)
    try:
        return _rows(told, ballot)
    except UserError as error:
        message = f"{path} does not agree with the ballot: {error}.\nIt was changed, or answers another ballot."
        raise UserError(message) from error


def _rows(told: dict[str, Any], ballot: Ballot) -> list[tuple[int, Answer]]:
    rater, sheet, rows = name_of(told.get("rater")), told.get("sheet"), told.get("answers")
    if type(sheet) is not int or not 0 <= sheet < len(ballot.sheets) or not isinstance(rows, list):
        message = f"sheet {sheet!r} is not on the ballot"
        raise UserError(message)
    return [(sheet, check(row, ballot, sheet, rater)) for row in rows]
