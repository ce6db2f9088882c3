"""A program of the user's own: asked a line at a time, ended with the words that say why when it does not answer."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from brushwork.errors import ModelError, RunFailed
from brushwork.extractors import load
from brushwork.features import FeatureStore

if TYPE_CHECKING:
    from pathlib import Path

HELLO = 'say({"name": "mine", "revision": "7", "gives": "scores"})'
START = """
import json, sys, time
say = lambda value: print(json.dumps(value), flush=True)
"""
SCORE = """
for line in sys.stdin:
    asked = json.loads(line)
    say({"id": asked["id"], "score": len(asked["text"]) + open(asked["image"], "rb").read()[1] / 1000})
"""


def program(tmp_path: Path, *parts: str, seconds: float = 20.0) -> Any:
    """Start a program that is made of these lines."""
    path = tmp_path / "program.py"
    path.write_text(START + "\n".join(textwrap.dedent(part) for part in parts))
    (encoder,) = load(f"external:{sys.executable} {path}", seconds=seconds)
    return encoder


def shown(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (4, 4), (place, 0, 0)) for place in range(count)]


def test_scores_are_asked_for_each_picture_with_its_prompt(tmp_path: Path) -> None:
    mine = program(tmp_path, HELLO, SCORE)
    assert (mine.name, mine.revision, mine.serves, mine.references) == ("external:mine", "7", ("score",), 0)
    scores = mine.encode_pairs(shown(), ["a", "bb", "a dog, \N{SNOWMAN}"])
    np.testing.assert_allclose(scores, np.array([1, 2, 8]) + ord("P") / 1000)
    mine.close()
    assert mine._process.returncode == 0


def test_features_are_rows(tmp_path: Path) -> None:
    hello = 'say({"name": "mine", "revision": "1", "preprocessing": "square", "gives": "features"})'
    answer = """
    for line in sys.stdin:
        asked = json.loads(line)
        assert "text" not in asked
        say({"id": asked["id"], "features": [asked["id"], 0.5]})
    """
    mine = program(tmp_path, hello, answer)
    assert mine.encode_images(shown()).tolist() == [[0, 0.5], [1, 0.5], [2, 0.5]]
    assert (mine.preprocessing, mine.serves) == ("square", ("features",))
    mine.close()


def test_a_pair_is_asked_about_once(tmp_path: Path) -> None:
    mine = program(tmp_path, HELLO, SCORE)
    store = FeatureStore(tmp_path / "features", mine)
    pictures = [*shown(2), *shown(2)]
    values, _ = store.of(pictures, ["a", "a", "a", "bb"])
    store.save()
    assert mine._asked == 3
    assert values.tolist() == pytest.approx([1.08, 1.08, 1.08, 2.08])
    again = FeatureStore(tmp_path / "features", mine)
    assert again.of(pictures, ["a", "a", "a", "bb"])[0].tolist() == values.tolist()
    assert mine._asked == 3
    mine.close()


@pytest.mark.parametrize(("first", "words"), [
    ("print('Loading weights', flush=True)", "must write one JSON object a line, but wrote 'Loading weights'"),
    ("say({'name': 'mine', 'gives': 'scores'})", "its first line must be like"),
    ("say({'revision': '1', 'gives': 'captions'})", "its first line must be like"),
    ("sys.exit('no such model')", r"the program ended \(exit code 1\) before it answered\.\nno such model"),
])  # fmt: skip
def test_a_program_that_does_not_say_what_it_is_is_refused(tmp_path: Path, first: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        program(tmp_path, first)


@pytest.mark.parametrize(("answer", "words"), [
    ("say({'id': 0, 'error': 'the picture is too small'})", "external:mine: the picture is too small"),
    ("say({'id': 3, 'score': 1})", "needs an answer with its id and 'score'"),
    ("say({'id': 0, 'value': 1})", "needs an answer with its id and 'score'"),
    ("say({'id': 0, 'score': float('nan')})", "a score must be a finite number, but is nan"),
    ("say({'id': 0, 'score': '5'})", "a score must be a finite number, but is '5'"),
    ("sys.exit(3)", r"the program ended \(exit code 3\)"),
    ("print('[1]', flush=True)", "must write one JSON object a line"),
])  # fmt: skip
def test_a_wrong_answer_ends_it_with_its_reason(tmp_path: Path, answer: str, words: str) -> None:
    mine = program(tmp_path, HELLO, f"sys.stdin.readline()\n{answer}\nsys.stdin.read()")
    with pytest.raises(RunFailed, match=words):
        mine.encode_pairs(shown(1), ["a dog"])
    mine.close()


def test_features_of_different_lengths_are_refused(tmp_path: Path) -> None:
    hello = 'say({"name": "mine", "revision": "1", "gives": "features"})'
    answer = "for number, line in enumerate(sys.stdin): say({'id': number, 'features': [0.5] * (number + 1)})"
    mine = program(tmp_path, hello, answer)
    with pytest.raises(RunFailed, match="not of one length"):
        mine.encode_images(shown())
    mine.close()


def test_a_program_that_is_silent_too_long_is_ended(tmp_path: Path) -> None:
    mine = program(tmp_path, HELLO, "time.sleep(600)", seconds=120.0)
    mine.seconds = 0.2
    with pytest.raises(RunFailed, match=r"no answer for 0\.2 seconds.*validation\.extractor_seconds"):
        mine.encode_pairs(shown(1), ["a dog"])
    assert mine._process.returncode not in (None, 0)
