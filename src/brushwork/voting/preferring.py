"""Votes as preference pairs: what the source ``pairs`` reads and ``--method dpo`` trains on.

    told = write(folder, answers.load(folder), Path("pairs"), question="overall")

One row for each pair of pictures: the one that more raters preferred, and the other. Pairs without a majority are left
out and counted. The pictures are copied, so the data set stands alone.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, RunFailed, nearest
from brushwork.runs import check_free, replacing, write_json
from brushwork.voting.ballot import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from brushwork.voting.answers import Answer
    from brushwork.voting.ballot import BallotFolder


def write(
    folder: BallotFolder, answers: Sequence[Answer], out: Path, *, question: str = "overall", margin: int = 1
) -> dict[str, Any]:
    """Write the data set and return what its ``pairs.json`` says.

    Args:
        folder: The ballot with its key.
        answers: Of all raters; repeats are left out.
        out: The folder; must be free.
        question: Whose answers decide.
        margin: The chosen picture has at least so many votes more than the other.

    Raises:
        UserError: The question is not on the ballot, or ``out`` is not free.
        RunFailed: No pair has such a majority.
    """
    check_free(out)
    if question not in folder.ballot.questions:
        hint = nearest(question, folder.ballot.questions)
        what = "is not on this ballot" if question in QUESTIONS else "is no question"
        message = f"question: {question!r} {what}.{hint}"
        raise ConfigError(message)
    asked = [each for each in answers if each.question == question and not each.repeat]
    counts = _counts(asked)
    decided = _decided(folder, counts, margin)
    if not decided:
        message = (
            f"{len(counts)} pairs with answers to {question!r} gave no preference by {margin} or more votes. "
            f"Lower the margin, or collect more votes."
        )
        raise RunFailed(message)
    told = {
        "ballot": folder.ballot.hash,
        "question": question,
        "text": folder.ballot.questions[question],
        "items": list(folder.key.items),
        "raters": len({each.rater for each in asked}),
        "votes": len(asked),
        "margin": margin,
        "pairs": len(decided),
        "ties": len(counts) - len(decided),
    }
    with replacing(out) as temporary:
        temporary.mkdir()
        rows = [_row(folder, pair, won, temporary) for pair, won in decided.items()]
        lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        (temporary / "metadata.jsonl").write_text(lines, "utf-8")
        write_json(temporary / "pairs.json", told)
    return told


def _counts(answers: Iterable[Answer]) -> dict[int, list[int]]:
    """Return how many preferred the first and the second picture of each pair; ties count for neither."""
    counts: dict[int, list[int]] = {}
    for each in answers:
        won = counts.setdefault(each.pair, [0, 0])
        if each.picture is not None:
            won[each.picture] += 1
    return counts


def _decided(folder: BallotFolder, counts: dict[int, list[int]], margin: int) -> dict[int, list[int]]:
    """Return the pairs with a majority, in the order of the ballot; the same picture twice is none.

    Raises:
        ConfigError: A prompt is not known.
    """
    shown = folder.ballot.pairs
    decided = {
        pair: won
        for pair, won in sorted(counts.items())
        if abs(won[0] - won[1]) >= margin and len(set(shown[pair].pictures)) > 1
    }
    if any(not shown[pair].prompt for pair in decided):
        message = f"{folder.path}: pairs to train on need their prompts, but those of this ballot are not known."
        raise ConfigError(message)
    return decided


def _row(folder: BallotFolder, pair: int, won: Sequence[int], out: Path) -> dict[str, Any]:
    """Copy the two pictures and return their row; the further columns say who drew them and how clear it was."""
    shown, owners = folder.ballot.pairs[pair], folder.key.pairs[pair]
    chosen = 0 if won[0] > won[1] else 1
    files = [f"{shown.pictures[place]}.png" for place in (chosen, 1 - chosen)]
    for name in files:
        shutil.copyfile(folder.pictures / name, out / name)
    return {
        "chosen": files[0],
        "rejected": files[1],
        "text": shown.prompt,
        "chosen_by": folder.key.items[owners[chosen]],
        "rejected_by": folder.key.items[owners[1 - chosen]],
        "votes_for": won[chosen],
        "votes_against": won[1 - chosen],
    }
