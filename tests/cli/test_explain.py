"""The command explain writes one page, and says what it cannot do."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from brushwork.anatomy import gallery
from brushwork.cli import run
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_prompt_is_explained_on_one_page(tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, colour in (("one", "red"), ("two", "blue")):
        Image.new("RGB", (50, 40), colour).save(tmp_path / f"{name}.png")
    images = ["--image", str(tmp_path / "one.png"), "--image", str(tmp_path / "two.png")]
    captions = ["--caption", "a red picture", "--caption", "a blue picture"]
    asked = ["explain", str(tiny_sd), "a cat", "--steps", "2", "--seed", "4", "--out", str(tmp_path / "page.html")]
    assert run([*asked, *images, *captions, "--judge", "mini-clip", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["request"]["seed"], told["calls"], told["page"]) == (4, 2, str(tmp_path / "page.html"))
    assert [each["word"] for each in told["attention"]["words"]] == ["a", "cat"]
    assert [each["name"] for each in told["round_trips"]] == ["the drawn picture", "one", "two"]
    assert told["similarity"]["judge"] == "mini-clip"
    assert told["missing"] == {}
    assert (tmp_path / "page.html").read_text("utf-8").count("<section") == 6


def test_what_cannot_be_explained_is_refused(tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "one.png"
    Image.new("RGB", (50, 40)).save(picture)
    for options, message in [
        (["--image", str(picture)], "has no caption"),
        (["--image", str(picture), "--caption", "a", "--caption", "b"], "2 captions for 1 pictures"),
        (["--caption", "a"], "belongs to an --image"),
        (["--image", str(tmp_path / "no.png")], "there is no picture"),
        (["--image", str(picture), "--skimage"], "give one of them"),
        (["--size", "33x32"], "multiple of"),
        (["--sampler", "Euler b"], "there is no 'Euler b'"),
    ]:
        assert run(["explain", str(tiny_sd), "a cat", "--steps", "1", *options]) == 2
        assert message in capsys.readouterr().err


def test_the_eight_pictures_come_with_scikit_image_or_its_absence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gallery.from_skimage()
    assert [each.name for each in found] == list(gallery.SKIMAGE)
    assert found[1].caption == "a facial photo of a tabby cat"
    assert {each.image.mode for each in found} == {"RGB"}
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    with pytest.raises(ConfigError, match="pip install scikit-image"):
        gallery.from_skimage()
