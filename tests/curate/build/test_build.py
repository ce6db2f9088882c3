"""``brushwork data build`` from end to end: every row has its fate, and being killed changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow.parquet as pq
import pytest
import webdataset
from hostile_web import FATES, MAX_BYTES, SIZE, Web
from PIL import Image

from brushwork import progress
from brushwork.cli import run
from brushwork.curate.build import build, resume
from brushwork.curate.build.settings import BuildConfig, load
from brushwork.errors import UserError
from brushwork.sources.captioned import Config as Captioned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 300
IMAGE = 64
FETCH = {
    "allow_private": ["127.0.0.1/32"], "timeout": 2.0, "backoff": 0.01, "delay": 0, "per_host": 48, "retries": 1,
    "max_bytes": MAX_BYTES,
}  # fmt: skip


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture(autouse=True)
def _quietly() -> None:
    progress.silence()


def config(table: Path, *presets: str, **changes: Any) -> BuildConfig:
    tree = {"image": {"size": IMAGE}, "engine": {"workers": 0, "part_size": 100}, "fetch": FETCH} | changes
    return load(metadata=[str(table)], presets=presets or ["resolution=64", "dedupe"], **tree)


@pytest.fixture(scope="module")
def table(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return web.table(tmp_path_factory.mktemp("metadata") / "rows.parquet", COUNT)


@pytest.fixture(scope="module")
def built(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set, built without interruption."""
    out = tmp_path_factory.mktemp("built") / "out"
    progress.silence()
    build(config(table), out)
    return out


def contents(out: Path) -> dict[str, bytes]:
    """Return every file of a data set, without what says when and with how many processes it was built."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in ("build.json", "build.yaml")}


def fates(out: Path) -> list[str]:
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    return [row["fate"] if row["fate"] == "kept" else f"{row['fate']}: {row['reason']}" for row in rows]


def test_every_row_has_its_fate(web: Web, built: Path) -> None:
    expected = [FATES[web.kind(number)] for number in range(COUNT)]
    assert fates(built) == expected
    summary = json.loads((built / "build.json").read_text("utf-8"))
    assert summary["fates"] == dict(Counter(expected))
    assert (summary["rows"], summary["kept"]) == (COUNT, expected.count("kept"))


def test_nothing_is_left_but_the_data_set(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {
        "README.md", "build.json", "build.yaml", "images", "manifest.parquet", "metadata.jsonl",
    }  # fmt: skip


def test_the_manifest_says_where_a_picture_came_from_and_where_it_is(web: Web, built: Path) -> None:
    rows = pq.read_table(built / "manifest.parquet").to_pylist()
    moved = next(row for row in rows if web.kind(row["row"]) == "moved")
    assert moved["url"] == web.url(moved["row"])
    assert moved["final_url"] == web.url(moved["row"], "fine")
    assert (moved["original_width"], moved["original_height"]) == (SIZE + 16, SIZE)
    for row in rows:
        assert (row["path"] is not None) == (row["fate"] == "kept")
        if row["path"]:
            with Image.open(built / row["path"]) as image:
                assert image.size == (row["width"], row["height"]) == (74, IMAGE)


def test_the_folder_can_be_trained_on(web: Web, built: Path) -> None:
    source = Captioned(path=str(built), resolution=IMAGE).build()
    source.verify()
    kept = [number for number in range(COUNT) if FATES[web.kind(number)] == "kept"]
    assert [source[place].caption for place in range(len(source))] == [f"picture {number}" for number in kept]


def test_the_card_counts_and_names_the_sources(built: Path) -> None:
    card = (built / "README.md").read_text("utf-8")
    for line in (
        "# 221 pictures with captions",
        "| failed: timeout | 7 | 2.3 % |",
        "| 127.0.0.1 | 221 |",
        "resolution: 64",
    ):
        assert line in card


def read_shard(path: Path) -> list[dict[str, Any]]:
    """Read a shard as webdataset does."""
    with path.open("rb") as file:
        members = webdataset.tariterators.tar_file_iterator(file)
        return list(webdataset.tariterators.group_by_keys({**each, "__url__": path.name} for each in members))


@pytest.mark.usefixtures("built")  # every flaky picture has had its failure
def test_shards_hold_the_same_pictures_as_the_folder(built: Path, table: Path, tmp_path: Path) -> None:
    fast = FETCH | {"timeout": 1.0, "retries": 0}
    changed = config(table, output={"format": "webdataset", "shard_size": 100}, fetch=fast)
    build(changed, tmp_path / "out")
    shards = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert shards == ["00000.tar", "00001.tar", "00002.tar"]
    samples = [sample for name in shards for sample in read_shard(tmp_path / "out" / name)]
    lines = [json.loads(line) for line in (built / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [sample["txt"].decode() for sample in samples] == [line["text"] for line in lines]
    assert [sample["jpg"] for sample in samples] == [(built / line["file_name"]).read_bytes() for line in lines]
    assert json.loads(samples[0]["json"])["sha256"] == lines[0]["sha256"]
    paths = [row["path"] for row in pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist() if row["path"]]
    with tarfile.open(tmp_path / "out" / "00000.tar") as shard:
        assert paths[0] in {f"00000.tar/{name}" for name in shard.getnames()}


def test_parts_of_another_size_and_other_processes_make_no_difference(built: Path, table: Path, tmp_path: Path) -> None:
    build(config(table, engine={"workers": 2, "part_size": 33}), tmp_path / "out")
    ours, theirs = contents(tmp_path / "out"), contents(built)
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def start(out: Path, *arguments: str, stderr: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Build as a user does, in a process of its own."""
    command = [sys.executable, "-m", "brushwork", "data", "build", *arguments, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)


def beginning(table: Path) -> list[str]:
    """Return the arguments that begin what ``built`` is."""
    overrides = [f"fetch.{key}={json.dumps(value)}" for key, value in FETCH.items()]
    options = ["--preset", "resolution=64", "--preset", "dedupe", "--size", str(IMAGE), "--workers", "1"]
    return [str(table), *overrides, "engine.part_size=20", *options]


def wait_for(happened: Any) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [each for each in children if any("spawn_main" in word for word in each.cmdline())]


@pytest.mark.slow
def test_a_build_that_lost_a_worker_and_was_killed_goes_on_to_the_same_bytes(
    built: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def parts_done(count: int) -> bool:
        return len(list((out / ".build" / "parts").glob("*.parquet"))) >= count

    with (tmp_path / "said").open("wb+") as said:
        process = start(out, *beginning(table), stderr=said)
        wait_for(lambda: parts_done(1))
        workers_of(process)[0].kill()
        assert process.wait(240) == 1
        said.seek(0)
        assert b"A process that decodes pictures died" in said.read()
    process = start(out, "--resume")
    wait_for(lambda: parts_done(3))
    workers = workers_of(process)
    process.kill()
    process.wait()
    assert workers
    wait_for(lambda: not any(each.is_running() for each in workers))  # they do not outlive the build
    assert not (out / "manifest.parquet").exists()
    assert run(["data", "build", str(table), "--out", str(out)]) == 2
    assert "Add --resume" in capsys.readouterr().err
    assert run(["data", "build", "--out", str(out), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 221
    assert contents(out) == contents(built)
    before = (out / "build.json").read_bytes()
    assert resume(out)["kept"] == 221  # nothing is left to do
    assert (out / "build.json").read_bytes() == before


KILLER = """
import os, pathlib, signal, sys
from brushwork import progress
from brushwork.curate import build
from brushwork.curate.build.settings import load

progress.silence()
recipe, out = sys.argv[1], pathlib.Path(sys.argv[2])
replace, done = pathlib.Path.replace, 0

def replacing(self, target, *, last, late):
    global done
    done += 1
    if late:
        replace(self, target)
    if done >= last:
        os.kill(os.getpid(), signal.SIGKILL)
    if not late:
        replace(self, target)

for attempt in range(1, 100):
    child = os.fork()
    if child == 0:
        pathlib.Path.replace = lambda self, target: replacing(self, target, last=attempt, late=attempt % 2)
        build.resume(out) if (out / "build.yaml").exists() else build.build(load(recipe), out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        print(attempt)
        sys.exit(0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "webdataset"])
def test_a_build_killed_between_any_two_steps_ends_in_the_same_bytes(web: Web, tmp_path: Path, form: str) -> None:
    """It is killed at its first rename, then at the second after that, and so on: before it or after it by turns."""
    rows = [(number, kind) for number, kind in enumerate(["fine", "flaky", "page", "moved", "small", "fine"] * 4, 1000)]
    table = tmp_path / "rows.csv"
    lines = [f"{web.url(number, kind)},picture {number}" for number, kind in rows]
    table.write_text("\n".join(["url,text", *lines]) + "\n", "utf-8")
    recipe = tmp_path / "recipe.yaml"
    tree = {
        "metadata": [str(table)], "image": {"size": IMAGE}, "fetch": FETCH, "filter": {"dedupe": ["url"]},
        "engine": {"workers": 0, "part_size": 5}, "output": {"format": form, "shard_size": 5},
    }  # fmt: skip
    recipe.write_text(json.dumps(tree), "utf-8")
    arguments = [str(recipe), str(tmp_path / "killed")]
    done = subprocess.run([sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 4
    build(load(recipe), tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert fates(tmp_path / "whole") == [FATES[kind] for _, kind in rows]


def test_pictures_that_look_like_one_before_are_left_out(web: Web, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    urls = [web.url(7, "fine"), web.url(7, "mislabelled"), web.url(8, "fine"), web.url(8, "large")]
    table.write_text("\n".join(["url,text", *(f"{url},one" for url in urls)]) + "\n", "utf-8")
    large = FETCH | {"max_bytes": 2 * MAX_BYTES}  # a picture with a tail: another file that looks the same
    summary = build(config(table, "dedupe=url", fetch=large), tmp_path / "out")
    assert summary["fates"] == {"kept": 2, "repeated: near-duplicate": 1, "repeated: same-file": 1}
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert [row["detail"] for row in rows] == ["", "0", "", "2"]
    both = config(table, "dedupe=url", fetch=large, image={"size": IMAGE, "near_duplicates": None})
    assert build(both, tmp_path / "both")["kept"] == 3


def test_metadata_of_which_nothing_passes_makes_an_empty_data_set_and_says_so(web: Web, tmp_path: Path) -> None:
    table = web.table(tmp_path / "rows.parquet", 4)
    summary = build(config(table, filter={"resolution": 9999}), tmp_path / "out")
    assert summary["fates"] == {"filtered: resolution": 4}
    assert "# 0 pictures" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_a_wrong_request_leaves_nothing_behind(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="aesthetic"):
        build(config(table, filter={"aesthetic": 5}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="holds no build"):
        resume(tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(UserError, match="not empty"):
        build(config(table), tmp_path / "full")


def test_two_processes_do_not_build_the_same(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out, *beginning(table))
    try:
        wait_for(lambda: (out / ".build" / "lock").exists() and (out / "build.yaml").exists())
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(UserError, match="another process is working"):
            resume(out)
    finally:
        process.kill()
        process.wait()
