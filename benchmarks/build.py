"""A build of thousands of pictures of which a third misbehave, and the same build killed again and again.

    python benchmarks/build.py                  # 5,000 rows, killed four times
    python benchmarks/build.py --rows 1000 --kills 2 --workers 1

The pictures come from the tests' server on this machine (`tests/hostile_web.py`): slow, missing, failing at first,
redirected in circles or to a private address, of another type than they say, HTML, too large, reserved. The build runs
by its command, once to its end and once with kill -9 at evenly spaced moments; every row's fate is compared with what
the server did, and both data sets byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import measure

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hostile_web import FATES, MAX_BYTES, Web

SETTINGS = {
    "image.size": 64, "filter.dedupe": ["url", "caption"], "engine.part_size": 100,
    "fetch.allow_private": ["127.0.0.1/32"], "fetch.delay": 0, "fetch.per_host": 64, "fetch.retries": 1,
    "fetch.backoff": 0.05, "fetch.timeout": 3.0, "fetch.max_bytes": MAX_BYTES,
}  # fmt: skip


def command(out: Path, *arguments: str) -> list[str]:
    """Return the command for a build."""
    return [sys.executable, "-m", "brushwork", "data", "build", *arguments, "--out", str(out)]


def begin(table: Path, workers: int) -> list[str]:
    """Return the arguments that begin a build."""
    settings = [f"{key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    return [str(table), *settings, "--workers", str(workers)]


def killed(table: Path, out: Path, workers: int, moments: list[int]) -> int:
    """Build, killed when so many parts are done; return how many kills hit it."""
    hits = 0
    for number, moment in enumerate(moments):
        arguments = ["--resume"] if number else begin(table, workers)
        process = subprocess.Popen(command(out, *arguments), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603  (ours)
        while process.poll() is None and len(list((out / ".build" / "parts").glob("*.parquet"))) < moment:
            time.sleep(0.02)
        hits += process.poll() is None
        process.kill()
        process.wait()
    measure.run_child(command(out, "--resume"), os.environ)
    return hits


def contents(out: Path) -> dict[str, bytes]:
    """Return every file but those with times in them."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in ("build.json", "build.yaml")}


def main() -> None:
    """Build, kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="build-") as folder, Web() as web:
        home = Path(folder)
        table = web.table(home / "rows.parquet", asked.rows)
        cost = measure.run_child(command(home / "whole", *begin(table, asked.workers)), os.environ)
        summary = json.loads((home / "whole" / "build.json").read_text("utf-8"))
        expected = Counter(FATES[web.kind(number)] for number in range(asked.rows))
        parts = asked.rows // SETTINGS["engine.part_size"]  # type: ignore[operator]
        moments = [parts * (number + 1) // (asked.kills + 1) for number in range(asked.kills)]
        hits = killed(table, home / "killed", asked.workers, moments)
        same = contents(home / "killed") == contents(home / "whole")
        print(measure.table(["fate", "rows", "by the server"], [
            [fate, str(rows), str(expected[fate])] for fate, rows in summary["fates"].items()
        ]))  # fmt: skip
        print(f"\n{asked.rows} rows: {cost.wall:.1f} s, {cost.cpu:.1f} CPU s, {asked.rows / cost.wall:.0f} rows/s")
        print(f"fates as the server made them: {summary['fates'] == dict(expected)}")
        print(f"killed {hits} times, at {moments} parts of {parts}; the same bytes: {same}")
        if not same or summary["fates"] != dict(expected):
            sys.exit(1)


if __name__ == "__main__":
    main()
