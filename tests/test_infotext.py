"""Infotext: written as A1111 writes it, read back as it was."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from brushwork import infotext
from brushwork.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: dict[str, object] = {"Steps": 20, "Sampler": "Euler a", "CFG scale": 7.0, "Seed": 1, "Size": "64x64"}
FROM_A1111 = """a castle, (stone:1.2)
by the sea
Negative prompt: blurry, low quality
Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 13.5, Seed: 123, Size: 512x512, \
Model hash: 540e663c24, Model: aryan_test_mk3, Clip skip: 2, \
Lora hashes: "my_lora: 0123456789ab, other: ffff00001111", \
Version: v1.10.1"""


def test_the_form_is_a1111s() -> None:
    text = infotext.write("a cat", "dogs", FIELDS | {"Model hash": "540e663c24", "Model": "mini"})
    assert text == (
        "a cat\nNegative prompt: dogs\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Model hash: 540e663c24, Model: mini"
    )


def test_an_empty_negative_prompt_has_no_line() -> None:
    assert "Negative" not in infotext.write("a cat", "", FIELDS)


def test_a_picture_of_a1111_is_understood() -> None:
    read = infotext.parse(FROM_A1111)
    assert read.prompt == "a castle, (stone:1.2)\nby the sea"
    assert read.negative_prompt == "blurry, low quality"
    assert read.fields["Lora hashes"] == "my_lora: 0123456789ab, other: ffff00001111"
    assert read.fields["CFG scale"] == "13.5"
    assert list(read.fields)[:3] == ["Steps", "Sampler", "Schedule type"]


def test_what_a1111_wrote_is_written_again_letter_by_letter() -> None:
    read = infotext.parse(FROM_A1111)
    assert infotext.write(read.prompt, read.negative_prompt, read.fields) == FROM_A1111


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "a, b",
        "key: value",
        "two\nlines",
        'he said "no", twice',
        '"quoted"',
        '"',
        " spaces around ",
        "back\\slash, comma",
        "漢字: ü",
        "a/b",
        "1e-4",
        "",
    ],
)
def test_every_value_survives(value: str) -> None:
    read = infotext.parse(infotext.write("p", "n", FIELDS | {"Extra": value, "Version": "x"}))
    assert read.fields["Extra"] == value
    assert read.fields["Version"] == "x"


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [
        ("a cat", ""),
        ("a cat\nin two lines", "no\ndogs"),
        ("", "only negative"),
        ("", ""),
        ("Steps: 20, Sampler: x, Seed: 3", ""),
        ("漢字, é, 🎨", "«ugly»"),
        ("<lora:mine:0.8> a cat", "x"),
        ("line\n\nafter an empty one", ""),
    ],
)
def test_every_prompt_survives(prompt: str, negative: str) -> None:
    read = infotext.parse(infotext.write(prompt, negative, FIELDS))
    assert (read.prompt, read.negative_prompt) == (prompt, negative)
    assert read.fields == {key: str(value).removesuffix(".0") for key, value in FIELDS.items()}


def test_text_without_settings_is_a_prompt() -> None:
    assert infotext.parse("just words, and: more") == infotext.Infotext("just words, and: more")


def picture(text: str, provenance: dict[str, Any]) -> Any:
    return SimpleNamespace(image=Image.new("RGB", (4, 4), "red"), infotext=text, provenance=provenance)


def test_a_png_holds_both_texts_and_the_pixels(tmp_path: Path) -> None:
    text = infotext.write("a 漢字 cat", "dogs", FIELDS)
    provenance = {"seed": 1, "adapters": [{"name": "x", "weight": 0.8}], "word": "漢字"}
    path = infotext.save_png(picture(text, provenance), tmp_path / "new" / "00000-1.png")
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
        assert image.info["parameters"] == text
        assert json.loads(image.info["brushwork"]) == provenance
    read = infotext.read_png(path)
    assert (read.prompt, read.fields["Seed"], read.provenance) == ("a 漢字 cat", "1", provenance)
    assert [each.name for each in path.parent.iterdir()] == ["00000-1.png"]


def test_a_png_without_texts_is_empty(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    assert infotext.read_png(tmp_path / "plain.png") == infotext.Infotext()


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_png_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"file\.png.*(not there|not a PNG)"):
        infotext.read_png(path)


@pytest.mark.parametrize("line", ["a" * 1_000_000, "a " * 500_000, 'x: "' * 250_000, "a" * 16_000, 'x: "' * 4000])
def test_a_hostile_last_line_takes_no_time(line: str) -> None:
    before = time.process_time()
    found = infotext.parse(f"a dog\n{line}")
    assert time.process_time() - before < 2
    assert found.prompt.startswith("a dog")
