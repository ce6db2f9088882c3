"""A ballot: the pairs that raters see, in a folder, with the key that they must not see.

    folder = make(("base", "tuned"), cells, Settings(), Path("ballots/first"))
    folder.ballot.hash, folder.key.items

    ballots/first/
      ballot.json      questions, prompts, pairs of pictures, and the order and sides for each rater
      key.json         which model drew which picture, the seed, how it was made; never sent to a rater
      pictures/        <hash of the file>.png, without any text in them
      answers/         one file for each rater
      drawn/           what the models drew, when the ballot had it drawn

The hash of ``ballot.json`` goes with every answer. Pictures are named by their content, so the hash covers them too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, UserError, nearest
from brushwork.runs import write_json
from brushwork.voting.designs import Design, Meeting, Trial, pairings, sheets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image

FORMAT = "brushwork ballot 1"
DIGITS = 32
"""Hex digits of a picture's name: 128 bits of the SHA-256 of its file."""

QUESTIONS = {
    "prompt": "Which picture follows the text better?",
    "style": "Which picture has more of {about}?",
    "overall": "Which picture do you prefer overall?",
}
LIKE_THE_EXAMPLES = "Which picture is more like the examples?"
WHAT_WAS_TAUGHT = "the style or subject that was to be learned"
BALLOT, KEY, PICTURES, ANSWERS = "ballot.json", "key.json", "pictures", "answers"


@dataclass(frozen=True)
class Cell:
    """A prompt and a seed: one picture of each model, in the order of the models."""

    prompt: str
    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Settings:
    """How people are asked.

    Args:
        questions: Names out of ``QUESTIONS``, asked one after the other on each pair.
        about: What the style or subject is, in words that complete "has more of ...".
        design: Which models meet; see ``designs.pairings``.
        most: At most so many different pairs.
        repeats: The share of pairs that each rater sees twice.
        seed: Of everything that is shuffled.
    """

    questions: tuple[str, ...] = tuple(QUESTIONS)
    about: str | None = None
    design: Design = "auto"
    most: int | None = None
    repeats: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse questions that nobody knows."""
        unknown = [name for name in self.questions if name not in QUESTIONS]
        if unknown:
            message = f"questions: there is no {unknown[0]!r}.{nearest(unknown[0], QUESTIONS)}"
            raise ConfigError(message)
        if not self.questions or len(set(self.questions)) != len(self.questions):
            message = f"questions: at least one, and each once, but got {', '.join(self.questions) or 'none'}."
            raise ConfigError(message)
        if self.about and "style" not in self.questions:
            message = "about: it is what the question 'style' asks for, which is not among the questions."
            raise ConfigError(message)


@dataclass(frozen=True)
class Pair:
    """Two pictures of one prompt, by their names, in the order of the names, which tells nothing."""

    prompt: str
    pictures: tuple[str, str]


@dataclass(frozen=True)
class Ballot:
    """What a rater sees."""

    questions: dict[str, str]
    pairs: tuple[Pair, ...]
    sheets: tuple[tuple[Trial, ...], ...]
    references: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Its one form as JSON, fit to stand in a page's script element."""
        value = {
            "format": FORMAT,
            "questions": [{"name": name, "text": text} for name, text in self.questions.items()],
            "pairs": [dataclasses.asdict(each) for each in self.pairs],
            "sheets": self.sheets,
            "references": self.references,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")

    @property
    def hash(self) -> str:
        """The SHA-256 of ``text``, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def pictures(self) -> set[str]:
        """The names of all pictures that it shows."""
        return {name for each in self.pairs for name in each.pictures} | set(self.references)

    @staticmethod
    def parse(text: str) -> Ballot:
        """Read ``text``."""
        value = json.loads(text)
        return Ballot(
            {each["name"]: each["text"] for each in value["questions"]},
            tuple(Pair(each["prompt"], (each["pictures"][0], each["pictures"][1])) for each in value["pairs"]),
            tuple(tuple(Trial(pair, left, repeat) for pair, left, repeat in sheet) for sheet in value["sheets"]),
            tuple(value["references"]),
        )


@dataclass(frozen=True)
class Key:
    """What a rater must not see: the models of each pair's two pictures, and where these are from (``cells``)."""

    ballot: str
    items: tuple[str, ...]
    seed: int
    pairs: tuple[tuple[int, int], ...]
    cells: tuple[str, ...]
    made: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BallotFolder:
    """A ballot with its key and its place."""

    path: Path
    ballot: Ballot
    key: Key

    @property
    def pictures(self) -> Path:
        """Where the pictures lie."""
        return self.path / PICTURES

    @property
    def answers(self) -> Path:
        """Where the answers of each rater lie."""
        return self.path / ANSWERS


def is_ballot(path: Path) -> bool:
    """Return whether a folder is a ballot's."""
    return (path / BALLOT).is_file()


def read(path: Path) -> BallotFolder:
    """Open a ballot and check that nothing of it was changed since it was made.

    Raises:
        UserError: It is no ballot, or its text, its key or a picture is not the one that it was made with.
    """
    if not is_ballot(path) or not (path / KEY).is_file():
        message = f"{str(path)!r} is no ballot: it lacks {BALLOT} or {KEY}. `brushwork vote` makes one."
        raise UserError(message)
    text, told = (path / BALLOT).read_text("utf-8"), json.loads((path / KEY).read_text("utf-8"))
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != told["ballot"]:
        message = (
            f"{path / BALLOT} was changed: its hash is {found[:12]}, but {KEY} was made for {told['ballot'][:12]}.\n"
            f"Votes on another ballot cannot be counted with this key. Restore the file, or make a new ballot."
        )
        raise UserError(message)
    ballot = Ballot.parse(text)
    changed = [name for name in sorted(ballot.pictures) if _name_of(path / PICTURES / f"{name}.png") != name]
    if changed:
        message = (
            f"{path / PICTURES}: {len(changed)} of {len(ballot.pictures)} pictures are missing or were changed, the "
            f"first is {changed[0]}.png. What was voted on is no longer known; make a new ballot."
        )
        raise UserError(message)
    pairs = tuple((one, other) for one, other in told["pairs"])
    key = Key(told["ballot"], tuple(told["items"]), told["seed"], pairs, tuple(told["cells"]), told["made"])
    return BallotFolder(path, ballot, key)


def make(
    items: Sequence[str],
    cells: Sequence[Cell],
    settings: Settings,
    out: Path,
    *,
    references: Sequence[Image] = (),
    made: dict[str, Any] | None = None,
) -> BallotFolder:
    """Write a ballot into ``out``; ``ballot.json`` comes last, so a folder without it is not finished.

    Args:
        items: The models' names, in the order of each cell's pictures.
        cells: What they drew.
        settings: How people are asked.
        out: The folder.
        references: Examples of the style or subject, shown beside the question about it.
        made: Whatever else the key should say about how it came about.

    Raises:
        UserError: Fewer than two models, no cells, or all pairs are of equal pictures.
    """
    if len(items) < 2 or not cells:  # noqa: PLR2004  (a pair)
        message = f"A vote needs at least two models and one prompt, but there are {len(items)} and {len(cells)}."
        raise UserError(message)
    folder = out / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    meetings = pairings(len(items), len(cells), settings.design, settings.most)
    pairs, owners = _pairs(meetings, cells, folder)
    same = sum(len(set(each.pictures)) == 1 for each in pairs)
    if same == len(pairs):
        message = "All pairs are of equal pictures: there is nothing to vote on. Is the adapter's weight 0?"
        raise UserError(message)
    ballot = Ballot(
        _questions(settings, references=bool(references)),
        tuple(pairs),
        tuple(_sides(settings, owners)),
        tuple(_store(picture, folder) for picture in references) if "style" in settings.questions else (),
    )
    told = {"settings": dataclasses.asdict(settings), "equal_pictures": same, **(made or {})}
    where = tuple(cells[each.cell].name for each in meetings)
    key = Key(ballot.hash, tuple(items), settings.seed, tuple(owners), where, told)
    write_json(out / KEY, dataclasses.asdict(key))
    (out / ANSWERS).mkdir(exist_ok=True)
    part = out / f".{BALLOT}.part"
    part.write_text(ballot.text, "utf-8")
    part.replace(out / BALLOT)
    return BallotFolder(out, ballot, key)


def _pairs(
    meetings: Sequence[Meeting], cells: Sequence[Cell], folder: Path
) -> tuple[list[Pair], list[tuple[int, int]]]:
    """Keep the pictures and return the pairs with the models of their pictures."""
    pairs, owners = [], []
    for cell, *models in meetings:
        (first, one), (second, other) = sorted((_keep(cells[cell].paths[item], folder), item) for item in models)
        pairs.append(Pair(cells[cell].prompt, (first, second)))
        owners.append((one, other))
    return pairs, owners


def _sides(settings: Settings, owners: Sequence[tuple[int, int]]) -> list[tuple[Trial, ...]]:
    """Turn "the earlier model stands left" into places of pictures, which are in the order of their names."""
    return [
        tuple(trial._replace(left=trial.left ^ (owners[trial.pair][0] > owners[trial.pair][1])) for trial in sheet)
        for sheet in sheets(len(owners), settings.seed, settings.repeats)
    ]


def _questions(settings: Settings, *, references: bool) -> dict[str, str]:
    asked = {name: QUESTIONS[name].format(about=settings.about or WHAT_WAS_TAUGHT) for name in settings.questions}
    if "style" in asked and references and not settings.about:
        asked["style"] = LIKE_THE_EXAMPLES
    return asked


def _keep(path: Path, folder: Path) -> str:
    """Copy the pixels of a picture, and nothing else of it, under the hash of the new file; return that."""
    from brushwork import images

    return _store(images.decode(path.read_bytes(), name=str(path)), folder)


def _store(picture: Image, folder: Path) -> str:
    buffer = io.BytesIO()
    picture = picture.convert("RGB")
    picture.info = {}
    picture.save(buffer, "PNG")
    name = hashlib.sha256(buffer.getvalue()).hexdigest()[:DIGITS]
    path = folder / f"{name}.png"
    if not path.is_file():
        part = path.with_suffix(".part")
        part.write_bytes(buffer.getvalue())
        part.replace(path)
    return name


def _name_of(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS] if path.is_file() else None
