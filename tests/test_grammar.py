"""The prompt grammar: what each form means, by the rules that A1111's users know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brushwork.errors import ConfigError
from brushwork.grammar import Network, Piece, Stretch, read, stretches, take_out, weigh


def pieces(text: str) -> list[tuple[str | None, float]]:
    return [(piece.text, round(piece.weight, 6)) for piece in weigh(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", 1.0)]),
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("((twice))", [("twice", 1.21)]),
        ("(x:1.3)", [("x", 1.3)]),
        ("(x: 1.3 )", [("x", 1.3)]),
        ("(x:.5)", [("x", 0.5)]),
        ("(x:-1)", [("x", -1.0)]),
        ("[x]", [("x", 0.909091)]),
        ("[[x]]", [("x", 0.826446)]),
        ("(a (b:2) c)", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),
        ("([x])", [("x", 1.0)]),
        ("(unclosed [here", [("unclosed ", 1.1), ("here", 1.0)]),
        ("closed) only]", [("closed) only]", 1.0)]),
        (r"\(literal\) \[this\]", [("(literal) [this]", 1.0)]),
        (r"(\(inside\):1.5)", [("(inside)", 1.5)]),
        ("time 10:30", [("time 10:30", 1.0)]),
        ("(10:30 o'clock)", [("10:30 o'clock", 1.1)]),
        ("a:1.5)", [("a:1.5)", 1.0)]),
        ("a BREAK b", [("a", 1.0), (None, 1.0), ("b", 1.0)]),
        ("(a BREAK b:1.2)", [("a", 1.2), (None, 1.0), ("b", 1.2)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
        ("a\nb (c)\n", [("a\nb ", 1.0), ("c", 1.1), ("\n", 1.0)]),
    ],
)
def test_emphasis(text: str, expected: list[tuple[str | None, float]]) -> None:
    assert pieces(text) == expected


def course(text: str, steps: int = 10) -> list[tuple[int, str]]:
    return [(each.last, each.text) for each in stretches(text, steps)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", [(10, "a dog")]),
        ("a [dog:cat:0.5]", [(5, "a dog"), (10, "a cat")]),
        ("a [dog:cat:3]", [(3, "a dog"), (10, "a cat")]),
        ("a [cat:0.25]", [(2, "a "), (10, "a cat")]),
        ("a [dog::4]x", [(4, "a dogx"), (10, "a x")]),
        ("[a|b]", [(n, "ab"[(n - 1) % 2]) for n in range(1, 11)]),
        ("[a|b|]c", [(n, ("ac", "bc", "c")[(n - 1) % 3]) for n in range(1, 11)]),
        ("[a [x:y:2] b:c:5]", [(2, "a x b"), (5, "a y b"), (10, "c")]),
        ("[(red:1.2):blue:5]", [(5, "(red:1.2)"), (10, "blue")]),
        ("[less]", [(10, "[less]")]),
        ("[not:a:time]", [(10, "[not:a:time]")]),
        ("[a:b:c:5]", [(10, "[a:b:c:5]")]),
        (r"\[a:b:5\]", [(10, r"\[a:b:5\]")]),
        ("[open:x:5", [(10, "[open:x:5")]),
        ("[a:b:20]", [(10, "a")]),
        ("[a:b:0]", [(10, "b")]),
        ("(a|b)", [(10, "(a|b)")]),
    ],
)
def test_editing_and_alternation(text: str, expected: list[tuple[int, str]]) -> None:
    assert course(text) == expected


@pytest.mark.parametrize(
    ("text", "words", "networks"),
    [
        ("a <lora:ink:0.8> b", "a  b", [Network("ink", 0.8, 0.8)]),
        ("<lora:ink>", "", [Network("ink", 1.0, 1.0)]),
        ("<lora:ink:0.5:0.9>", "", [Network("ink", 0.5, 0.9)]),
        ("<lora:ink:te=0.5:unet=0.9>", "", [Network("ink", 0.5, 0.9)]),
        ("<lora:ink:unet=0.9>", "", [Network("ink", 1.0, 0.9)]),
        ("<lora:a:1><lora:b:2><lora:a:-0.5>", "", [Network("b", 2.0, 2.0), Network("a", -0.5, -0.5)]),
        ("<lyco:old:0.7>", "", [Network("old", 0.7, 0.7)]),
        ("a < b > c <3", "a < b > c <3", []),
    ],
)
def test_tags(text: str, words: str, networks: list[Network]) -> None:
    assert take_out(text) == (words, tuple(networks))


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("<lora:ink:much>", "'much' is not a weight"),
        ("<lora:ink:nan>", "'nan' is not a weight"),
        ("<hypernet:x:1>", "no tags 'hypernet'"),
        ("<lora:ink:dyn=4>", "not understood"),
        ("<lora:ink:1:2:3>", "not understood"),
    ],
)
def test_a_tag_that_is_not_understood_is_refused(tag: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        take_out(f"a dog {tag}")


def test_a_prompt_is_plain_when_it_is_just_words() -> None:
    assert read("a dog <lora:ink:0.8>", 20).plain
    assert not read("a (dog)", 20).plain
    assert not read("a [dog:cat:0.5]", 20).plain
    assert not read("a BREAK b", 20).plain
    assert read(r"a \(dog\)", 20).stretches == (Stretch(20, r"a \(dog\)"),)


@given(st.text(alphabet="ab ()[]:|\\<>.15BREAK\n", max_size=40), st.integers(1, 12))
def test_any_text_is_read_and_every_step_has_words(text: str, steps: int) -> None:
    found = stretches(text, steps)
    assert [each.last for each in found] == sorted({each.last for each in found})
    assert found[-1].last == steps
    assert all(isinstance(piece, Piece) for each in found for piece in weigh(each.text))


@given(st.text(alphabet="abc xyz.,'", max_size=60))
def test_words_without_signs_stay_as_they_are(text: str) -> None:
    assert weigh(text) == (Piece(text, 1.0),)
    assert stretches(text, 7) == (Stretch(7, text),)
