"""The house style, as far as a machine can check it."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "brushwork"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(
    path for folder in ("tests", "docs", "embedded", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
)

LONGEST_FILE, LONGEST_TEST, LONGEST_FUNCTION = 400, 700, 50
LONG_FILES = {"embedded/captions.py": "half of it is a table of words"}
LONG_FUNCTIONS: dict[str, str] = {}
"""``module:function`` -> why it may be longer."""
FAMILY_NAMES = re.compile(r"\bis_(sd|sdxl|sd3|flux|pixart|sana)\b")
OUTSIDE = re.compile(r"(?<![\w./~])/(?:work|home|root|opt)/\w")
"""Paths of the machine that something was written on."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@dataclass(frozen=True)
class Facts:
    """What is asked of a file's syntax tree."""

    documented: bool
    functions: dict[str, int]
    """Their lengths in lines."""
    broad: list[int]
    """Lines with an ``except`` that catches everything and keeps it."""


@functools.cache
def facts(path: Path) -> Facts:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = list(ast.walk(tree))
    defined = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    broad = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not any(isinstance(each, ast.Raise) and each.exc is None for each in ast.walk(node))
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in sorted(defined, key=_length)}
    return Facts(bool(ast.get_docstring(tree)) or not tree.body, lengths, broad)


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno  # of those with one name the longest comes last, and counts


def tracked() -> list[Path]:
    """Return the text files that git knows, or all beside the sources where there is no git."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    paths = [ROOT / each for each in done.stdout.split("\0") if each] or [*MODULES, *SCRIPTS]
    suffixes = {".py", ".md", ".toml", ".yaml", ".txt", ".html", ".js", ".css", ""}
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


def test_no_file_is_longer_than_400_lines_and_no_test_than_700() -> None:
    counts = {path: len(path.read_text("utf-8").splitlines()) for path in [*MODULES, *SCRIPTS]}
    limits = {path: LONGEST_TEST if ROOT / "tests" in path.parents else LONGEST_FILE for path in counts}
    long = {name(path): count for path, count in counts.items() if count > limits[path]}
    assert {each: count for each, count in long.items() if each not in LONG_FILES} == {}
    assert set(LONG_FILES) <= set(long), "an exemption is no longer needed"


def test_no_function_is_longer_than_50_lines() -> None:
    lengths = {f"{name(path)}:{each}": length for path in MODULES for each, length in facts(path).functions.items()}
    long = {each: length for each, length in lengths.items() if length > LONGEST_FUNCTION}
    assert {each: length for each, length in long.items() if each not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) <= set(long), "an exemption is no longer needed"


def test_every_module_says_what_it_is() -> None:
    assert [name(path) for path in [*MODULES, *SCRIPTS] if not facts(path).documented] == []


def test_nothing_is_called_utils() -> None:
    assert [name(path) for path in [*MODULES, *SCRIPTS] if path.stem in ("utils", "helpers", "common", "misc")] == []


def test_no_family_is_asked_for_by_name_outside_its_own_file() -> None:
    assert [
        name(path)
        for path in MODULES
        if path.parent.name != "families" and FAMILY_NAMES.search(path.read_text("utf-8"))
    ] == []


def test_nothing_is_left_to_do_in_a_comment() -> None:
    pattern = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b")
    assert [name(path) for path in MODULES if pattern.search(path.read_text("utf-8"))] == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = {
        name(path): hit.group()
        for path in tracked()
        if (hit := OUTSIDE.search(path.read_text("utf-8", errors="ignore")))
    }
    assert {each: hit for each, hit in found.items() if each != name(Path(__file__))} == {}


def test_no_broad_except() -> None:
    assert [f"{name(path)}:{line}" for path in MODULES for line in facts(path).broad] == []


@pytest.mark.slow
def test_importing_every_module_imports_neither_torch_nor_diffusers() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in MODULES
    ]
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        "    heavy = {'torch', 'diffusers', 'transformers', 'peft', 'datasets', 'accelerate'} & set(sys.modules)\n"
        "    assert not heavy, f'{module} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
