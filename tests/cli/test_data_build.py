"""``brushwork data build`` on the command line: what it says, and what it refuses."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from hostile_web import Web

from brushwork.cli import run
from brushwork.curate.build.settings import load, to_yaml

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("fetch.delay=0", "fetch.retries=0", "engine.workers=0")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("url,text,width,height\nhttp://127.0.0.1:1/a.jpg,a cat,640,640\n", "utf-8")
    return path


def test_it_says_where_the_data_are_and_what_became_of_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Web() as web:
        table = web.table(tmp_path / "rows=1.parquet", 2)  # a file may be called so
        options = ["--size", "64", "--crop", "smart", "--allow-private", "--preset", "resolution=64"]
        out = tmp_path / "out"
        arguments = [str(table), *QUICK, *options, "--where", "width > 3", "--out", str(out)]
        assert run(["data", "build", *arguments]) == 0
        said = capsys.readouterr()
        assert said.out.strip() == str(out)
        assert "1  kept" in said.err
        assert "1  failed: http-500" in said.err  # without a retry
        recipe = out / "build.yaml"
        config = load(recipe)
        assert (config.image.mode, config.image.size, config.filter.resolution) == ("smart", 64, 64)
        assert load(recipe) == load({"metadata": [str(table)]}, overrides=[]).model_validate(config.model_dump())
        assert to_yaml(config) == recipe.read_text("utf-8")
        assert (
            run(["data", "build", str(recipe), "--format", "webdataset", "--json", "--out", str(tmp_path / "b")]) == 0
        )
        told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["kept"], told["format"]) == (str(tmp_path / "b"), 2, "webdataset")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "similarty"], "There is no preset 'similarty'. Did you mean similarity?"),
        (["--preset", "similarity"], "filter.similarity needs the metadata's column of similarity"),
        (["--where", "widht > 3"], "there is no column 'widht'. Did you mean width?"),
        (["--where", "getenv('HOME') = ''"], "the function getenv cannot stand in it"),
        (["fetch.delya=1"], "fetch.delya is not a known key. Did you mean delay?"),
        (["fetch.allow_private=[10.0.0.0/99]"], "fetch.allow_private"),
        (["image.background=blurple"], "blurple"),
        (["engine.address=auto"], "address is Ray's, but type is local"),
        (["missing.parquet"], "'missing.parquet' names no file"),
        (["--resume"], "--resume goes on from the build's own settings"),
    ],
)
def test_wrong_requests_are_refused_and_leave_nothing(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["data", "build", str(table), *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_to_resume_and_no_metadata_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "build", "--resume", "--out", str(tmp_path / "out")]) == 2
    assert "holds no build" in capsys.readouterr().err
    assert run(["data", "build", "--out", str(tmp_path / "out")]) == 2
    assert "metadata is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "extra", "options"),
    [("cv2", "data", []), ("duckdb", "data", []), ("aiohttp", "data", []), ("ray", "ray", ["--engine", "ray"])],
)
def test_a_missing_extra_is_named(
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    extra: str,
    options: list[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert run(["data", "build", str(table), *options, "--out", str(tmp_path / "out")]) == 2
    assert f"pip install 'brushwork[{extra}]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
