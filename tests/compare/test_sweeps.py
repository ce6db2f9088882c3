"""The axes of a sweep are read as written, and every combination is a cell."""

from __future__ import annotations

import pytest

from brushwork.compare import sweeps
from brushwork.errors import ConfigError


def test_values_are_read_by_kind() -> None:
    assert sweeps.parse("weight=0,0.5,1").values == (0.0, 0.5, 1.0)
    assert sweeps.parse("steps=10,20").values == (10, 20)
    assert sweeps.parse("sampler=DDIM,Euler a").values == ("DDIM", "Euler a")
    assert sweeps.parse('prompt:a cat=a dog,"a big, red horse"').values == ("a cat", "a dog", "a big, red horse")


@pytest.mark.parametrize(("text", "said"), [
    ("wieght=1,2", "Did you mean weight"),
    ("weight", "weight=0,0.5,1"),
    ("prompt=cat,dog", "prompt:WORDS"),
    ("steps:x=1", "no axis"),
    ("steps=1.5", "not a whole number"),
    ("steps=0,1", "not a whole number"),
    ("cfg=high", "not a number"),
    ("cfg=", "needs values"),
    ("cfg=3,3", "each of them once"),
    ("prompt:cat=dog,cat", "each of them once"),
    ("sampler=[", "cannot be read"),
])  # fmt: skip
def test_what_is_no_axis_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sweeps.parse(text)


def test_every_combination_is_a_cell_and_the_last_axis_changes_fastest() -> None:
    axes = [sweeps.parse("cfg=3,7"), sweeps.parse("prompt:cat=dog")]
    cells = sweeps.cells(axes)
    assert [each.at for each in cells] == [
        {"cfg": "3", "prompt (cat)": "cat"},
        {"cfg": "3", "prompt (cat)": "dog"},
        {"cfg": "7", "prompt (cat)": "cat"},
        {"cfg": "7", "prompt (cat)": "dog"},
    ]
    assert [sweeps.swap("a cat", each.swaps) for each in cells] == ["a cat", "a dog"] * 2
    assert cells[2].values == {"cfg": 7.0}


def test_without_axes_there_is_one_cell() -> None:
    assert sweeps.cells([]) == [sweeps.Cell({}, {})]


@pytest.mark.parametrize(("texts", "models", "said"), [
    (["cfg=1", "steps=1", "weight=1", "sampler=DDIM"], 1, "4 axes do not fit"),
    (["cfg=1", "steps=1", "weight=1"], 2, "several models are one of them"),
    (["cfg=1", "cfg=2"], 1, "given once"),
    ([f"steps={','.join(map(str, range(1, 31)))}", f"cfg={','.join(map(str, range(20)))}"], 1, "600 cells"),
])  # fmt: skip
def test_what_does_not_fit_on_a_page_is_refused(texts: list[str], models: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sweeps.cells([sweeps.parse(each) for each in texts], models)


def test_words_that_no_prompt_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="no prompt has the words 'horse'"):
        sweeps.check_words([sweeps.parse("prompt:horse=dog")], ["a cat"])
