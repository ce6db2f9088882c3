"""The documentation is run: every block of every page, in order, in a folder of its own.

A comment before a block changes what the test does with it:

    <!-- test: skip (reason) -->                it needs a network, a GPU ...
    <!-- test: --steps 300 -> --steps 2 -->     the same, smaller
    <!-- test: add key=value ... -->            the same, with more at the end of the first command
    <!-- test: thorough -->                     by `make test-all` only; no block after it needs what it makes
    <!-- test: --data engravings -> --data few -->      eight of them; two.txt and others.txt hold two prompts each
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from brushwork import config
from brushwork.sources.captioned import DATASETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from warm import Server

ROOT = Path(__file__).parents[1]
GENERATED = {"configuration.md", "cli.md"}
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED)]
EVERY_PAGE = [
    *PAGES,
    *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "docs" / name for name in GENERATED),
]
BLOCK = re.compile(r"((?:^<!-- test: .*? -->\n)*)^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"<!-- test: (.*?) -->")
RUN = {"bash", "python", "yaml"}


@dataclass
class Block:
    """A block of code on a page."""

    language: str
    code: str
    notes: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> bool:
        return any(note.startswith("skip") for note in self.notes)

    @property
    def thorough(self) -> bool:
        """Whether it is left to the longest tests, because nothing after it needs what it makes."""
        return "thorough" in self.notes

    def smaller(self) -> str:
        """Return the code as the test runs it."""
        code = self.code
        for note in self.notes:
            old, arrow, new = note.partition(" -> ")
            if arrow:
                assert old in code, f"{old!r} is not in the block"
                code = code.replace(old, new)
            elif note.startswith("add "):
                first, newline, rest = code.partition("\n")
                code = f"{first} {note.removeprefix('add ')}{newline}{rest}"
        return code


def blocks(page: Path) -> Iterator[Block]:
    for notes, language, code in BLOCK.findall(page.read_text("utf-8")):
        yield Block(language, code, NOTE.findall(notes))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_up_to_date() -> None:
    for path, text in generator().pages().items():
        assert path.read_text("utf-8").splitlines() == text.splitlines(), f"{path.name}: run `make docs`"


def test_every_setting_says_what_it_does() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith("|") and line.endswith("| None |")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_skipped_block_has_a_reason(page: Path) -> None:
    notes = [note for block in blocks(page) for note in block.notes if note.startswith("skip")]
    assert [note for note in notes if not re.fullmatch(r"skip \(.+\)", note)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_yaml_blocks_are_recipes_or_parts_of_one(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and not block.skipped:
            config.load({"data": "engravings"} | yaml.safe_load(block.smaller()))


def make_smaller_data(folder: Path) -> None:
    """Write what blocks are given in place of the embedded data and prompts."""
    (folder / "few").mkdir()
    for picture in sorted((DATASETS / "engravings").glob("*.png"))[:8]:
        for path in (picture, picture.with_suffix(".txt")):
            shutil.copy(path, folder / "few")
    (folder / "two.txt").write_text("a cat, old ink engraving\na dog, old ink engraving\n", "utf-8")
    (folder / "others.txt").write_text("a house\na tree\n", "utf-8")


def runs() -> list[Any]:
    """Return each page, and those with blocks for the longest tests a second time, with them."""
    longest = [page for page in PAGES if any(block.thorough for block in blocks(page))]
    again = [pytest.param(page, True, marks=pytest.mark.thorough, id=f"{page.name}, all") for page in longest]
    return [*(pytest.param(page, False, id=page.name) for page in PAGES), *again]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "everything"), runs())
@pytest.mark.usefixtures("shared_cache")
def test_the_blocks_of_a_page_run_in_order(page: Path, everything: bool, tmp_path: Path, warm: Server) -> None:
    """In processes that ``warm.py`` forks: a page that calls ``brushwork`` five times imports torch once."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    make_smaller_data(tmp_path)
    environment = os.environ | {"PATH": f"{warm.command}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks(page):
        if block.skipped or block.language not in ("bash", "python") or (block.thorough and not everything):
            continue
        code = block.smaller()
        if block.language == "bash":
            code = f"import os; os.execvp('bash', ['bash', '-euo', 'pipefail', '-c', {code!r}])"
        done = warm.run(code, cwd=tmp_path, env=environment)
        assert done.code == 0, f"{block.smaller()}\n{done.output}"


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda path: path.name)
def test_links_to_files_of_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda path: path.name)
def test_paths_in_backticks_exist(page: Path) -> None:
    """A page that names a source file names one that is there."""
    pattern = r"`(?!\S*NAME)((?:src|tests|docs|recipes|embedded|benchmarks|examples)/[\w./-]+)`"
    named = re.findall(pattern, page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []
