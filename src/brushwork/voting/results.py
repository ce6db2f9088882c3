"""The page of a vote's results: what was preferred, how sure that is, how far raters can be trusted, every pair.

write(folder, answers, counting.count(folder, answers), Path("results.html"))
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from brushwork import __version__, wording
from brushwork.runs import replacing
from brushwork.thumbnails import data_uri
from brushwork.voting import counting, page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brushwork.voting.answers import Answer
    from brushwork.voting.ballot import BallotFolder

SHOWN = 60
"""At most so many pairs stand on the page; all of them are in the ballot."""

SIDE = 256


def write(folder: BallotFolder, answers: Sequence[Answer], told: dict[str, Any], path: Path) -> Path:
    """Write the page and return its path.

    Args:
        folder: The ballot with its key.
        answers: Of all raters.
        told: What ``counting.count`` found in them.
        path: The file.
    """
    environment = page.environment()
    words = ("number", "p_text", "counted", "curly")
    environment.filters |= {name: getattr(wording, name) for name in words} | {
        "percent": percent,
        "between": between,
        "enough": _enough,
    }
    text = environment.get_template("results.html.jinja").render(
        style=(page.REPORT / "report.css").read_text("utf-8") + (page.ASSETS / "results.css").read_text("utf-8"),
        told=told,
        lead=_lead(told),
        trust=_trust(told),
        pairs=_pairs(folder, answers),
        left_out=max(0, len(folder.ballot.pairs) - SHOWN),
        version=__version__,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
    return path


def percent(share: float | None) -> str:
    """Write a share in percent, a dash where there is none."""
    return "\N{EN DASH}" if share is None else f"{100 * share:.0f}\N{NARROW NO-BREAK SPACE}%"


def between(interval: Sequence[float] | None) -> str:
    """Write an interval of shares."""
    return "\N{EN DASH}" if interval is None else f"{100 * interval[0]:.0f} to {percent(interval[1])}"


def _lead(told: dict[str, Any]) -> str:
    raters, questions = len(told["raters"]), len(told["questions"])
    return (
        f"{wording.counted(raters, 'rater')} gave {wording.counted(told['votes'], 'vote')} on "
        f"{wording.counted(told['pairs'], 'pair')} of pictures of {wording.counted(told['prompts'], 'prompt')}, "
        f"{wording.counted(questions, 'question')} each, without knowing which picture was whose."
    )


def _trust(told: dict[str, Any]) -> list[str]:
    """Say how far the votes can be relied on."""
    said, same, left = [], told["self_consistency"], told["side_bias"]
    if same["n"]:
        said.append(
            f"Shown a pair again with its sides exchanged, raters gave the same answer {same['k']} of {same['n']} "
            f"times ({percent(same['rate'])}, 95 % interval {between(same['interval'])}). Guessing among three "
            f"answers would agree in a third."
        )
    else:
        said.append("No pair was seen twice by a rater, so nothing is known about how consistent they are.")
    if left["n"]:
        said.append(
            f"The left picture was chosen in {left['k']} of {left['n']} choices ({percent(left['rate'])}, 95 % "
            f"interval {between(left['interval'])}, p = {wording.p_text(left['p'])}). Sides were drawn at random, so "
            f"a leaning to one side adds noise but favours no model."
        )
    for question in told["questions"]:
        agreed = question["agreement"]
        if agreed["kappa"] is None:
            continue
        said.append(
            f"On the question of {question['name']}, Fleiss' kappa is {wording.number(agreed['kappa'], 2)} over "
            f"{agreed['pairs']} of {agreed['of_pairs']} pairs, each judged by {agreed['raters']} raters: 0 is what "
            f"chance gives, 1 is agreement."
        )
    if not any(question["agreement"]["raters"] for question in told["questions"]):
        said.append("No pair was judged by two raters, so nothing is known about how far people agree.")
    return said


def _enough(meeting: dict[str, Any]) -> str:
    """Say how many votes more it would take if the preference is as large as it looks."""
    still = meeting["votes_still_needed"]
    return "even so far" if still is None else "enough" if still == 0 else wording.grouped(still)


def _pairs(folder: BallotFolder, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the pairs that most divide the models first, each with its votes by question."""
    from PIL import Image

    votes: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for vote in counting.resolve(folder, answers):
        if not vote.answer.repeat:
            votes[vote.answer.pair][vote.answer.question].append(vote.score)
    lean = {pair: sum(score - 0.5 for each in own.values() for score in each) for pair, own in votes.items()}
    shown = []
    for pair in sorted(votes, key=lambda each: (lean[each], each))[:SHOWN]:
        owners, public = folder.key.pairs[pair], folder.ballot.pairs[pair]
        order = sorted((0, 1), key=lambda place: owners[place])
        uris = [data_uri(Image.open(folder.pictures / f"{public.pictures[place]}.png"), SIDE) for place in order]
        counts = [
            {
                "question": name,
                "one": sum(score == 1 for score in own),
                "other": sum(score == 0 for score in own),
                "ties": sum(score == 0.5 for score in own),  # noqa: PLR2004  (a tie)
            }
            for name, own in votes[pair].items()
        ]
        items = [folder.key.items[owners[place]] for place in order]
        shown.append({"prompt": public.prompt, "uris": uris, "items": items, "counts": counts})
    return shown
