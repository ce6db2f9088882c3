"""Lists of prompts are found, and mistakes in them are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from brushwork import config as configs
from brushwork import prompts
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_read_line_by_line_without_comments_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff# animals\na dog\n\n  a cat  \n", "utf-8")
    assert prompts.resolve(str(path)) == ["a dog", "a cat"]


def test_every_embedded_list_can_be_resolved() -> None:
    assert all(prompts.resolve(name) for name in prompts.embedded())


def test_prompts_without_the_learnt_word_are_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("textual-inversion", "pivotal", "dreambooth"):
        tree = {"data": {"path": "photos", **({"instance_token": "<concept>"} if method == "dreambooth" else {})}}
        config = configs.load(tree, method=method)
        prompts.check_word(["a cat", "a dog"], config.method, config.data)
        said = capsys.readouterr().err
        assert said.startswith("validation.prompts: none of the 2 has the word '<concept>' in it")
        assert len(said.splitlines()) == 1
        prompts.check_word(["a cat", "a <CONCEPT>"], config.method, config.data)
    config = configs.load({"data": "photos"}, method="lora")
    prompts.check_word(["a cat"], config.method, config.data)
    assert capsys.readouterr().err == ""


def test_nothing_stands_for_the_fallback() -> None:
    assert prompts.resolve((), ["a fish"]) == ["a fish"]
    assert prompts.resolve("") == []


def test_a_sentence_is_not_taken_for_a_file_but_the_message_says_how_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r'validation\.control_prompts=\["a dog"\]'):
        prompts.resolve("a dog", key="validation.control_prompts")


def test_prompts_that_occur_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("a dog\na cat\na dog\n", "utf-8")
    with pytest.raises(ConfigError, match="'a dog'"):
        prompts.resolve(str(path))


@pytest.mark.parametrize("value", [("a dog", " "), ("",)])
def test_empty_prompts_are_refused(value: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="empty"):
        prompts.resolve(value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        prompts.resolve(str(path))


def test_the_maker_writes_the_files_that_ship_and_leaves_the_others(tmp_path: Path) -> None:
    from embedded.datasets import write_prompts

    shipped = prompts.EMBEDDED
    (tmp_path / "old-books.yaml").write_text("target: [a hut]")
    write_prompts(tmp_path)
    made = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.txt")}
    assert made == {path.name: path.read_text("utf-8") for path in shipped.glob("*.txt")}
    assert (tmp_path / "old-books.yaml").exists()
