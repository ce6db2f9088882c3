"""What the votes say: rates with intervals, exact tests, strengths, agreement, and how many votes are lacking.

    told = count(folder, answers.load(folder), detect=0.6)
    told["questions"][0]["meetings"][0]["sentence"]

The unit is told with every number. An interval of a rate takes each vote for a witness of its own, which votes of one
rater or on one prompt are not; the tests therefore let each prompt have one say (by the majority of its votes), and the
intervals of strengths come from resampling whole raters and prompts.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork.errors import UserError
from brushwork.statistics import (
    Votes,
    fleiss_kappa,
    holm,
    mcnemar_test,
    rank,
    votes_needed,
    votes_still_needed,
    wilson_interval,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from brushwork.voting.answers import Answer
    from brushwork.voting.ballot import BallotFolder

DETECT = 0.6
"""The preference that a vote should be able to show, if nobody says otherwise."""

FEWEST_RATERS = 2
"""Agreement needs two."""


@dataclass(frozen=True)
class Vote:
    """An answer with the models that it is about; ``score`` is 1 for ``one``, 0 for ``other``, 0.5 for a tie."""

    answer: Answer
    prompt: str
    one: int
    other: int
    score: float


def resolve(folder: BallotFolder, answers: Iterable[Answer]) -> list[Vote]:
    """Look up in the key what each answer is about; ``one`` is the model that was named first."""
    votes = []
    for each in answers:
        owners = folder.key.pairs[each.pair]
        one, other = sorted(owners)
        picture = each.picture
        score = 0.5 if picture is None else float(owners[picture] == one)
        prompt = folder.ballot.pairs[each.pair].prompt or folder.key.cells[each.pair]
        votes.append(Vote(each, prompt, one, other, score))
    return votes


def count(folder: BallotFolder, answers: Sequence[Answer], *, detect: float = DETECT) -> dict[str, Any]:
    """Return everything that the page of results shows, as plain values.

    Args:
        folder: The ballot with its key.
        answers: Of all raters.
        detect: The share of a preference that the vote should be able to show, for the number of votes it takes.

    Raises:
        UserError: There are no answers but repeats, or ``detect`` is no preference.
    """
    if not 0.5 < detect < 1:  # noqa: PLR2004  (no preference)
        message = f"detect: a preference is a share above 0.5 and below 1, but got {detect}."
        raise UserError(message)
    votes = resolve(folder, answers)
    first = [vote for vote in votes if not vote.answer.repeat]
    if not first:
        message = (
            "There are only answers to repeated pairs, and those serve to see whether raters agree with themselves."
        )
        raise UserError(message)
    items = folder.key.items
    questions = [
        _question(name, text, [vote for vote in votes if vote.answer.question == name], folder, detect)
        for name, text in folder.ballot.questions.items()
    ]
    _adjust(questions)
    for question in questions:
        for meeting in question["meetings"]:
            meeting["sentence"] = sentence(meeting)
    return {
        "ballot": folder.ballot.hash,
        "items": list(items),
        "seed": folder.key.seed,
        "made": folder.key.made,
        "prompts": len({vote.prompt for vote in first}),
        "pairs": len(folder.ballot.pairs),
        "raters": _raters(votes, folder),
        "votes": len(first),
        "detect": detect,
        "questions": questions,
        "self_consistency": _consistency(votes),
        "side_bias": _sides(answers),
    }


def _question(name: str, text: str, every: Sequence[Vote], folder: BallotFolder, detect: float) -> dict[str, Any]:
    items, votes = folder.key.items, [vote for vote in every if not vote.answer.repeat]
    met = sorted({(vote.one, vote.other) for vote in votes})
    return {
        "name": name,
        "text": text,
        "votes": len(votes),
        "ties": sum(vote.score == 0.5 for vote in votes),  # noqa: PLR2004  (a tie)
        "meetings": [
            _meeting(one, other, [vote for vote in votes if (vote.one, vote.other) == (one, other)], items, detect)
            for one, other in met
        ],
        "strengths": _strengths(votes, items, folder.key.seed) if votes else None,
        "agreement": _agreement(votes),
        "self_consistency": _consistency(every),
    }


def _meeting(one: int, other: int, votes: Sequence[Vote], items: Sequence[str], detect: float) -> dict[str, Any]:
    """Count two models against each other; rates are those of ``other``, the one that was named later."""
    tally = Counter(vote.score for vote in votes)
    lost, won, ties = tally[1.0], tally[0.0], tally[0.5]
    by_prompt: dict[str, float] = defaultdict(float)
    for vote in votes:
        by_prompt[vote.prompt] += 0.5 - vote.score
    up, down = (sum(sign * total > 0 for total in by_prompt.values()) for sign in (1, -1))
    still = votes_still_needed(won, lost, ties)
    wanted = votes_needed(detect)
    return {
        "one": items[one],
        "other": items[other],
        "votes": len(votes),
        "wins_one": lost,
        "wins_other": won,
        "ties": ties,
        "rate_other": won / (won + lost) if won + lost else None,
        "rate_interval": list(wilson_interval(won, won + lost)) if won + lost else None,
        "prompts_other": up,
        "prompts_one": down,
        "prompts_even": len(by_prompt) - up - down,
        "p": mcnemar_test(up, down),
        "smallest_p": min(1.0, 2.0 ** (1 - len(by_prompt))),
        "p_holm": None,
        "p_by_votes": mcnemar_test(won, lost),
        "votes_still_needed": still,
        "votes_to_detect": {"share": detect, "in_all": wanted, "still": max(0, wanted - len(votes))},
    }


def _adjust(questions: Sequence[dict[str, Any]]) -> None:
    """Adjust the p-values over all questions and meetings (Holm 1979)."""
    every = [meeting for question in questions for meeting in question["meetings"]]
    for meeting, adjusted in zip(every, holm([each["p"] for each in every]), strict=True):
        meeting["p_holm"] = float(adjusted)


def _strengths(votes: Sequence[Vote], items: Sequence[str], seed: int) -> dict[str, Any]:
    """Return Bradley-Terry strengths with 95 % intervals over raters and prompts."""
    rows = [(vote.answer.rater, vote.prompt, vote.one, vote.other, vote.score) for vote in votes]
    ranking = rank(Votes.of(rows), items, seed=seed)
    interval = ranking.points_interval
    return {
        "items": [
            {
                "item": item,
                "strength": float(ranking.strengths[place]),
                "points": float(ranking.points[place]),
                "points_interval": None if interval is None else [float(each) for each in interval[place]],
            }
            for place, item in enumerate(items)
        ],
        "regularised": ranking.regularised,
    }


def _agreement(votes: Sequence[Vote]) -> dict[str, Any]:
    """Return Fleiss' kappa over the pairs that the same number of raters judged, as many votes as possible."""
    table: dict[int, Counter[float]] = defaultdict(Counter)
    for vote in votes:
        table[vote.answer.pair][vote.score] += 1
    sizes = Counter(sum(row.values()) for row in table.values())
    usable = {size: size * pairs for size, pairs in sizes.items() if size >= FEWEST_RATERS}
    if not usable:
        return {"kappa": None, "raters": None, "pairs": 0, "of_pairs": len(table)}
    raters = max(usable, key=lambda size: (usable[size], size))
    rows = [[row[score] for score in (1.0, 0.5, 0.0)] for row in table.values() if sum(row.values()) == raters]
    kappa = fleiss_kappa(rows)
    return {
        "kappa": None if math.isnan(kappa) else kappa,
        "raters": raters,
        "pairs": len(rows),
        "of_pairs": len(table),
    }


def _consistency(votes: Sequence[Vote]) -> dict[str, Any]:
    """Return how often a rater said the same about a pair that came again with its sides exchanged."""
    first = {(v.answer.rater, v.answer.pair, v.answer.question): v.score for v in votes if not v.answer.repeat}
    again = [
        (vote, (vote.answer.rater, vote.answer.pair, vote.answer.question)) for vote in votes if vote.answer.repeat
    ]
    same = [vote.score == first[key] for vote, key in again if key in first]
    return _rate(sum(same), len(same))


def _sides(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return how often the left picture was chosen, among all choices, repeats too, and the exact p of one half."""
    tally = Counter(each.choice for each in answers)
    left, right = tally["left"], tally["right"]
    return {**_rate(left, left + right), "p": mcnemar_test(left, right)}


def _rate(k: int, n: int) -> dict[str, Any]:
    return {"k": k, "n": n, "rate": k / n if n else None, "interval": list(wilson_interval(k, n)) if n else None}


def _raters(votes: Sequence[Vote], folder: BallotFolder) -> list[dict[str, Any]]:
    """Return what is worth knowing about each rater: how much, how fast, how decided, how consistent."""
    told, questions = [], len(folder.ballot.questions)
    for rater, own in itertools.groupby(votes, key=lambda vote: vote.answer.rater):
        every = list(own)
        first = [vote for vote in every if not vote.answer.repeat]
        told.append(
            {
                "rater": rater,
                "votes": len(first),
                "of": len(folder.ballot.pairs) * questions,
                "ties": sum(vote.score == 0.5 for vote in first),  # noqa: PLR2004  (a tie)
                "seconds": statistics.median(vote.answer.ms for vote in every) / 1000,
                "self_consistency": _consistency(every),
                "left": _sides([vote.answer for vote in every]),
                "with_others": _with_others(rater, first, votes),
            }
        )
    return told


def _with_others(rater: str, own: Sequence[Vote], votes: Sequence[Vote]) -> dict[str, Any]:
    """Return how often a rater preferred what most of the others preferred, where both had a preference."""
    leaning: dict[tuple[int, str], float] = defaultdict(float)
    for vote in votes:
        if vote.answer.rater != rater and not vote.answer.repeat:
            leaning[vote.answer.pair, vote.answer.question] += vote.score - 0.5
    both = [(vote.score - 0.5, leaning[vote.answer.pair, vote.answer.question]) for vote in own]
    decided = [(mine, theirs) for mine, theirs in both if mine and theirs]
    return _rate(sum(mine * theirs > 0 for mine, theirs in decided), len(decided))


def sentence(meeting: dict[str, Any]) -> str:
    """Say what two models' votes show, in words that can be quoted."""
    from brushwork.wording import counted, p_text

    won, lost, ties = meeting["wins_other"], meeting["wins_one"], meeting["ties"]
    said = f"{meeting['other']} was preferred in {won} of {won + lost} votes with a preference"
    if meeting["rate_interval"]:
        low, high = meeting["rate_interval"]
        said += f" ({100 * meeting['rate_other']:.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    said += f", {counted(ties, 'tie')}."
    p, reach = meeting["p_holm"], meeting["smallest_p"]
    said += (
        f" {counted(meeting['prompts_other'], 'prompt')} went to it and {meeting['prompts_one']} to {meeting['one']}: "
        f"p = {p_text(p)} over all questions (smallest reachable {p_text(reach)} before the correction)."
    )
    if p < 0.05:  # noqa: PLR2004  (the level)
        better = meeting["other"] if meeting["prompts_other"] > meeting["prompts_one"] else meeting["one"]
        return f"{said} {better} is preferred."
    if reach > 0.05:  # noqa: PLR2004  (the level)
        return f"{said} So few prompts cannot show a preference, however clear."
    return f"{said} That is no evidence of a preference, nor of equality."
