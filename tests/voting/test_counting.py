"""What is counted agrees with counting by hand and with scipy; foreign and changed answers are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import scipy.stats
from ballots import answered, hand_in, make_ballot

from brushwork.errors import ConfigError, RunFailed, UserError
from brushwork.voting import answers, counting, preferring, results

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.voting.ballot import BallotFolder


def tuned(_shown: tuple[int, int], question: str) -> int | None:
    return None if question == "prompt" else 1


def left(shown: tuple[int, int], _question: str) -> int:
    return shown[0]


@pytest.fixture
def folder(tmp_path: Path) -> BallotFolder:
    return make_ballot(tmp_path, prompts=10)


def counted(folder: BallotFolder, *raters: Any, **options: Any) -> dict[str, Any]:
    for number, choose in enumerate(raters):
        hand_in(folder, f"rater {number}", number, answered(folder, number, choose))
    return counting.count(folder, answers.load(folder), **options)


def question(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in told["questions"] if each["name"] == name)


def test_raters_who_agree_are_counted_as_they_voted(folder: BallotFolder) -> None:
    told = counted(folder, tuned, tuned, tuned)
    overall, prompt = question(told, "overall"), question(told, "prompt")
    meeting = overall["meetings"][0]
    assert (meeting["wins_other"], meeting["wins_one"], meeting["ties"], meeting["votes"]) == (30, 0, 0, 30)
    assert meeting["p"] == pytest.approx(scipy.stats.binomtest(10, 10).pvalue)
    assert meeting["p_by_votes"] == pytest.approx(scipy.stats.binomtest(30, 30).pvalue)
    assert meeting["smallest_p"] == 2**-9
    low, high = scipy.stats.binomtest(30, 30).proportion_ci(method="wilson")
    assert meeting["rate_interval"] == pytest.approx([low, high])
    assert "tuned is preferred" in meeting["sentence"]
    assert (prompt["ties"], prompt["meetings"][0]["p"], prompt["meetings"][0]["rate_other"]) == (30, 1.0, None)
    assert overall["agreement"] == {"kappa": None, "raters": 3, "pairs": 10, "of_pairs": 10}, "all votes are the same"
    assert told["self_consistency"]["k"] == told["self_consistency"]["n"] == 9
    assert told["votes"] == 90, "repeats do not count"
    points = {each["item"]: each["points"] for each in overall["strengths"]["items"]}
    assert points["tuned"] > points["base"]
    assert overall["strengths"]["regularised"]


def test_whoever_always_chooses_the_left_picture_is_found_out(folder: BallotFolder) -> None:
    told = counted(folder, left, left)
    assert told["side_bias"]["rate"] == 1
    assert told["side_bias"]["p"] < 1e-6
    assert told["self_consistency"]["k"] == 0, "with exchanged sides such an answer is another one"
    meeting = question(told, "overall")["meetings"][0]
    assert (meeting["wins_one"], meeting["wins_other"]) == (10, 10), "couples of sheets exchange all sides"
    assert meeting["votes_still_needed"] is None
    assert question(told, "overall")["agreement"]["kappa"] == pytest.approx(-1)
    assert all(each["with_others"]["k"] == 0 for each in told["raters"])


def test_tests_let_each_prompt_have_one_say_and_are_corrected_over_the_questions(folder: BallotFolder) -> None:
    def mostly(_shown: tuple[int, int], question: str) -> int:
        return 1 if question != "overall" else 0

    told = counted(folder, mostly, tuned, tuned)
    meetings = [each["meetings"][0] for each in told["questions"]]
    assert [each["prompts_other"] for each in meetings] == [10, 10, 10]
    assert [each["p"] for each in meetings] == [2**-9] * 3
    assert [each["p_holm"] for each in meetings] == pytest.approx([3 * 2**-9] * 3)
    overall = meetings[2]
    assert overall["p_by_votes"] == pytest.approx(scipy.stats.binomtest(20, 30).pvalue)


def test_agreement_is_fleiss_kappa_of_the_pairs_with_equally_many_raters(folder: BallotFolder) -> None:
    hand_in(folder, "ann", 0, answered(folder, 0, lambda _shown, _question: 1))
    rows = answered(folder, 1, lambda _shown, _question: 0)
    kept = [row for row in rows if not row["repeat"]][: 6 * 3]
    hand_in(folder, "ben", 1, kept)
    agreed = question(counting.count(folder, answers.load(folder)), "overall")["agreement"]
    assert (agreed["pairs"], agreed["of_pairs"], agreed["raters"]) == (6, 10, 2)
    assert agreed["kappa"] == pytest.approx(-1)


def test_how_many_votes_are_lacking_follows_from_the_preference_to_be_shown(folder: BallotFolder) -> None:
    told = counted(folder, tuned, detect=0.65)
    meeting = question(told, "overall")["meetings"][0]
    assert meeting["votes_to_detect"] == {"share": 0.65, "in_all": 85, "still": 75}
    with pytest.raises(UserError, match=r"above 0\.5"):
        counting.count(folder, answers.load(folder), detect=0.5)


def test_more_models_are_ranked_with_intervals_over_raters_and_prompts(tmp_path: Path) -> None:
    folder = make_ballot(tmp_path, models=4, prompts=6, questions=("overall",), design="all")
    told = counted(folder, *[lambda shown, _: max(shown)] * 3)
    strengths = question(told, "overall")["strengths"]["items"]
    points = [each["points"] for each in strengths]
    assert points == sorted(points)
    assert all(low <= value <= high for value, (low, high) in ((e["points"], e["points_interval"]) for e in strengths))
    assert len(question(told, "overall")["meetings"]) == 6


def test_files_of_several_raters_are_put_together_and_one_downloaded_twice_counts_once(
    folder: BallotFolder, tmp_path: Path
) -> None:
    rows = answered(folder, 2, tuned)
    inbox = tmp_path / "inbox"
    hand_in(folder, "Ann", 2, rows, inbox / "early.json")
    hand_in(folder, "Ann", 2, rows[:5], inbox / "late.json")
    hand_in(folder, "ben", 3, answered(folder, 3, tuned), tmp_path / "ben.json")
    found = answers.load(folder, [inbox, tmp_path / "ben.json"])
    assert {each.rater for each in found} == {"Ann", "ben"}
    assert len(found) == 2 * len(rows)
    other = [{**row, "choice": "right" if row["choice"] == "left" else "left"} for row in rows]
    hand_in(folder, "Ann", 2, other, inbox / "other.json")
    with pytest.raises(UserError, match=r"'Ann' answered differently .* change the name"):
        answers.load(folder, [inbox])


def test_foreign_and_changed_answers_are_refused(folder: BallotFolder, tmp_path: Path) -> None:
    foreign = make_ballot(tmp_path / "foreign", prompts=10, seed=1)
    path = hand_in(foreign, "eve", 0, answered(foreign, 0, tuned), tmp_path / "eve.json")
    with pytest.raises(UserError, match="answers another ballot"):
        answers.load(folder, [path])
    good = answered(folder, 0, tuned)
    for change, message in [
        ({"left": 1 - good[0]["left"]}, "shows pair"),
        ({"place": 99}, "not on sheet"),
        ({"choice": "both"}, "not on the ballot"),
        ({"question": "taste"}, "not on the ballot"),
        ({"question": ["prompt"]}, "not on the ballot"),
        ({"ms": -1}, "no time"),
        ({"more": 1}, "an answer has"),
    ]:
        hand_in(folder, "eve", 0, [{**good[0], **change}], path)
        with pytest.raises(UserError, match=message):
            answers.load(folder, [path])
    for text, message in [("{", "no file of answers"), ("[]", "does not say"), (b"\xff\xfe", "no file of answers")]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UserError, match=message):
            answers.load(folder, [path])
    with pytest.raises(UserError, match="There is no"):
        answers.load(folder, [tmp_path / "nobody.json"])
    with pytest.raises(UserError, match="no answers yet"):
        answers.load(folder)


def test_the_page_of_results_names_the_models_and_stands_alone(folder: BallotFolder, tmp_path: Path) -> None:
    told = counted(folder, tuned, left)
    text = results.write(folder, answers.load(folder), told, tmp_path / "results.html").read_text("utf-8")
    assert "base or tuned" in text
    assert "https://" not in text
    assert "<script" not in text
    assert text.count("data:image/") == 20
    assert "takes 194 independent votes" in text
    assert json.loads(json.dumps(told))["questions"] == told["questions"], "results.json holds the same"


def test_votes_become_pairs_of_the_picture_that_most_preferred(folder: BallotFolder, tmp_path: Path) -> None:
    from brushwork.sources.pairs import Config

    for number, choose in enumerate([tuned, tuned, lambda _shown, _question: 0]):
        hand_in(folder, f"r{number}", number, answered(folder, number, choose))
    found = answers.load(folder)
    told = preferring.write(folder, found, tmp_path / "pairs")
    assert (told["pairs"], told["ties"], told["raters"], told["votes"]) == (10, 0, 3, 30)
    source = Config(path=str(tmp_path / "pairs")).build()
    source.verify()
    rows = [json.loads(line) for line in (tmp_path / "pairs" / "metadata.jsonl").read_text("utf-8").splitlines()]
    for index, row in enumerate(rows):
        assert (row["chosen_by"], row["votes_for"], row["votes_against"]) == ("tuned", 2, 1)
        pair = next(each for each in folder.ballot.pairs if f"{each.pictures[0]}.png" in row.values())
        assert source[index].caption == pair.prompt
        assert set(pair.pictures) == {row["chosen"][:-4], row["rejected"][:-4]}
    with pytest.raises(RunFailed, match="gave no preference by 2"):
        preferring.write(folder, found, tmp_path / "more", margin=2)
    with pytest.raises(RunFailed, match="10 pairs with answers to 'prompt'"):
        preferring.write(folder, answers.load(folder)[: 11 * 3], tmp_path / "more", question="prompt")
    with pytest.raises(ConfigError, match="Did you mean overall"):
        preferring.write(folder, found, tmp_path / "more", question="overal")
    assert not (tmp_path / "more").exists()
