"""The Ray engine: two workers give the same bytes as the local engine, also when one of them is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from hostile_web import Web

from brushwork.curate.build import build
from brushwork.curate.build.settings import load
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 240


def contents(out: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in ("build.json", "build.yaml")}


def kill_a_worker(parent: int, parts: Path) -> bool:
    """Kill a process that runs a task, once some part is done; return whether there was one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and psutil.pid_exists(parent):
        if list(parts.glob("*.parquet")):
            for each in psutil.Process(parent).children(recursive=True):
                if each.is_running() and any("ray::MapBatches" in word for word in each.cmdline()[:1]):
                    each.kill()
                    return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_give_the_same_bytes(tmp_path: Path) -> None:
    with Web() as web:
        kinds = ["late", "flaky", "late", "page", "late"]
        urls = [f"{web.url(number, kinds[number % len(kinds)])},picture {number}" for number in range(120)]
        table = tmp_path / "rows.csv"
        table.write_text("\n".join(["url,text", *urls]) + "\n", "utf-8")
        tree = {
            "metadata": [str(table)], "image": {"size": 64}, "engine": {"workers": 2, "part_size": 5},
            "fetch": {"allow_private": True, "delay": 0, "backoff": 0.01, "timeout": 20.0},
        }  # fmt: skip
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(json.dumps(tree), "utf-8")
        command = [sys.executable, "-m", "brushwork", "data", "build", str(recipe), "--engine", "ray"]
        out = tmp_path / "ray"
        with (tmp_path / "said").open("w+", encoding="utf-8") as said:
            process = subprocess.Popen([*command, "--out", str(out), "--json"], stdout=said, stderr=said)
            killed = kill_a_worker(process.pid, out / ".build" / "parts")
            code = process.wait(PATIENCE)
            said.seek(0)
            assert code == 0, said.read()
        assert killed
        build(load(recipe, engine={"workers": 0}), tmp_path / "local")
    assert contents(out) == contents(tmp_path / "local")
    assert json.loads((out / "build.json").read_text("utf-8"))["fates"] == {"kept": 96, "unfit: html": 24}


def test_settings_that_an_engine_cannot_honour_are_errors() -> None:
    with pytest.raises(ConfigError, match="address is Ray's"):
        load(metadata=["x.csv"], engine={"address": "auto"})
    with pytest.raises(ConfigError, match="Ray needs at least 1"):
        load(metadata=["x.csv"], engine={"type": "ray", "workers": 0})
