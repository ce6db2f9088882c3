"""The words of a style are those that the captions share, and a caption has them whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import brushwork
from brushwork import styles
from brushwork.errors import ConfigError

DATASETS = Path(brushwork.__file__).parent / "assets" / "datasets"


def captions(name: str) -> list[str]:
    return [path.read_text("utf-8").strip() for path in sorted((DATASETS / name).glob("*.txt"))]


@pytest.mark.parametrize(("name", "template"), [
    ("engravings", "{prompt}, old ink engraving"),
    ("sketches", "{prompt}, soft pencil drawing"),
])  # fmt: skip
def test_the_template_of_an_embedded_style_is_what_stands_behind_the_comma(name: str, template: str) -> None:
    assert styles.template_of(captions(name)) == template


@pytest.mark.parametrize(("given", "template"), [
    (["a sketch of a dog", "a sketch of a cat", "a sketch of an owl", "a sketch of a fox"], "a sketch of {prompt}"),
    (["ink drawing: dog", "ink drawing: cat", "ink drawing: owl", "ink drawing: fox"], "ink drawing: {prompt}"),
    (["a dog in ink", "a cat in ink", "an owl in ink", "a fox in ink", "a pig"], "{prompt} in ink"),
    (["sks dog runs", "sks dog sits", "sks dog eats", "sks dog"], None),  # a subject is no style
    (["a dog", "a cat", "a fox", "a cow"], None),
    (["a dog, in ink", "a cat, in ink", "an owl, in ink"], None),  # three captions show nothing
    (["a dog, in ink"] * 9, None),
])  # fmt: skip
def test_the_template_stands_before_of_or_behind_a_comma(given: list[str], template: str | None) -> None:
    assert styles.template_of(given) == template


def test_a_prompt_gets_the_style_once_and_loses_it() -> None:
    for template, said in (("{prompt}, in ink", "a dog, in ink"), ("a sketch of {prompt}", "a sketch of a dog")):
        assert styles.plain(said, template) == styles.plain("a dog", template) == "a dog"
        assert styles.styled(said, template) == styles.styled("a dog", template) == said


@pytest.mark.parametrize("template", ["in ink", "{prompt}", "{prompt}, ", "{prompt} {prompt} in ink"])
def test_a_template_without_a_prompt_or_without_words_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"validation\.style_template"):
        styles.check(template)


def test_words_come_from_the_captions_and_from_what_a_captioner_says_of_the_same_pictures() -> None:
    assert styles.words_of(captions("engravings")) == ("engraving", "ink", "old")
    said = ["a drawing of a dog", "a drawing of a cat", "a photo of a pig", "a drawing of an owl"]
    assert styles.words_of([], said) == ("drawing",)
    assert styles.words_of(["a dog"] * 3) == ()


def test_a_hit_is_a_whole_word_in_either_case() -> None:
    found = styles.hits(
        np.array([["An Engraving of a pink dog", "engravings"], ["a dog in INK", ""]]), ("engraving", "ink")
    )
    assert found.tolist() == [[True, False], [True, False]]
    assert styles.hits(["a black and white sketch"], ("black and white",)).tolist() == [True]
    assert not styles.hits(["a dog"], ()).any()
