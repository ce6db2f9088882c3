"""Filtering LAION-like metadata: ``brushwork data build``'s first stage beside ``datasets.filter`` with a function.

    python benchmarks/filter.py                                   # 1,000,000 rows, both
    python benchmarks/filter.py --rows 10000000 --ours-only --whole

Both sides find out which rows pass the same six criteria on numbers and labels; brushwork also says why the others do
not. Every side is a process of its own; its CPU time counts from after its imports, its memory at the peak is the
operating system's account of the whole process. Converting the Parquet files into the form that ``datasets`` reads is
not counted. With ``--whole`` brushwork goes on to the end of its stage: it also looks at addresses and captions, drops
those that repeat (a tenth of the addresses does), and writes the rows that pass.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure

FILES = 4
LANGUAGES = ("en", "de", "fr", "zh")
TABLE = """
    SELECT 'https://host' || (i % 5000) || '.example/' || md5(CAST(i % {distinct} AS VARCHAR)) || '.jpg' AS URL,
           'a picture of ' || md5(CAST(i AS VARCHAR)) || ' beside the ' || (i % 997) AS TEXT,
           200 + CAST(1400 * random() AS INTEGER) AS WIDTH, 200 + CAST(1400 * random() AS INTEGER) AS HEIGHT,
           {languages}[1 + CAST(i % 7 AS INTEGER) % 4] AS LANGUAGE,
           0.2 + 0.2 * random() AS similarity, random() AS pwatermark, 0.3 * random() AS punsafe, hash(i) AS hash
    FROM range({start}, {stop}) t(i)
"""
CRITERIA = {"resolution": 512, "aspect": 2.0, "language": ["en"], "similarity": 0.28, "watermark": 0.5, "unsafe": 0.1}


def generate(folder: Path, rows: int) -> None:
    """Write metadata; a tenth of the addresses comes twice."""
    import duckdb

    folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute("SELECT setseed(0.5)")
        for number in range(FILES):
            start, stop = rows * number // FILES, rows * (number + 1) // FILES
            query = TABLE.format(distinct=rows * 9 // 10, languages=list(LANGUAGES), start=start, stop=stop)
            connection.execute(f"COPY ({query}) TO '{folder}/{number}.parquet' (FORMAT parquet)")


def ours(folder: Path, work: Path, *, whole: bool) -> int:
    """Filter with brushwork; return how many rows pass."""
    import duckdb  # noqa: F401  (imports are not counted)
    import pyarrow.parquet  # noqa: F401

    from brushwork.curate.build import selection, settings, tables

    more = {"dedupe": ["url", "caption"], "caption_length": [5, 300]} if whole else {}
    config = settings.load(metadata=[str(folder)], filter=CRITERIA | more)
    way = selection.select if whole else selection.decide
    return measured(lambda: way(config, tables.find(config.metadata), work / "selection").counts()[""])


def theirs(folder: Path, work: Path) -> int:
    """Filter with datasets and a Python function; return how many rows pass."""
    import datasets

    datasets.disable_progress_bars()
    table = datasets.load_dataset(
        "parquet", data_files=f"{folder}/*.parquet", split="train", cache_dir=str(work / "cache")
    )

    def passes(row: dict[str, Any]) -> bool:
        shorter, longer = sorted((row["WIDTH"], row["HEIGHT"]))
        return bool(
            shorter >= CRITERIA["resolution"]
            and longer <= CRITERIA["aspect"] * shorter
            and row["similarity"] >= CRITERIA["similarity"]
            and row["pwatermark"] <= CRITERIA["watermark"]
            and row["punsafe"] <= CRITERIA["unsafe"]
            and row["LANGUAGE"] in CRITERIA["language"]
        )

    return measured(lambda: len(table.filter(passes)))


def measured(work: Any) -> int:
    """Run something, print what it cost, and return what it returned."""
    began, cpu = time.perf_counter(), time.process_time()
    passing: int = work()
    cost = {
        "passing": passing,
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - began,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(cost))
    return passing


def child(side: str, folder: Path, work: Path, *, whole: bool) -> dict[str, float]:
    """Run one side in a process of its own."""
    script = f"{sys.executable} {__file__} --side {side} --folder {folder} --work {work} {'--whole' if whole else ''}"
    said = work.with_suffix(".json")
    measure.run_child(["/bin/sh", "-c", f"{script} > {said}"], os.environ)
    cost: dict[str, float] = json.loads(said.read_text("utf-8").splitlines()[-1])
    return cost


def compare(rows: int, rounds: int, *, ours_only: bool, whole: bool) -> dict[str, list[dict[str, float]]]:
    """Measure both sides in turn."""
    costs: dict[str, list[dict[str, float]]] = {"ours": []} | ({} if ours_only else {"theirs": []})
    with tempfile.TemporaryDirectory(prefix="filter-") as folder:
        home = Path(folder)
        measure.run_child(
            [sys.executable, __file__, "--side", "generate", "--folder", home / "rows", "--rows", str(rows)], os.environ
        )
        for number in range(rounds):
            for side, each in costs.items():
                each.append(child(side, home / "rows", home / f"{side}-{number}", whole=whole and side == "ours"))
    return costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ours-only", action="store_true", help="without datasets.filter")
    parser.add_argument("--whole", action="store_true", help="brushwork goes on to the end of its stage")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--side", choices=["ours", "theirs", "generate"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side == "generate":
        generate(asked.folder, asked.rows)
    elif asked.side:
        asked.work.mkdir(parents=True, exist_ok=True)
        if asked.side == "theirs":
            theirs(asked.folder, asked.work)
        else:
            ours(asked.folder, asked.work, whole=asked.whole)
    else:
        costs = compare(asked.rows, asked.rounds, ours_only=asked.ours_only, whole=asked.whole)
        report(costs, asked.rows, asked.json)


def report(costs: dict[str, list[dict[str, float]]], rows: int, path: Path | None) -> None:
    """Print a table, and write all figures."""
    names = {"ours": "brushwork data build", "theirs": "datasets.filter"}
    least = {side: {key: min(cost[key] for cost in each) for key in ("cpu", "wall")} for side, each in costs.items()}
    lines = []
    for side, each in costs.items():
        ratio = f"x{least['theirs']['cpu'] / least[side]['cpu']:.1f}" if "theirs" in least else ""
        memory = max(cost["memory"] for cost in each) / 1e6
        cells = [f"{least[side]['cpu']:.2f}", f"{least[side]['wall']:.2f}", f"{memory:.0f}", ratio]
        lines.append([names[side], *cells, str(int(each[0]["passing"]))])
    print(f"{rows} rows")
    print(measure.table(["", "CPU s", "wall s", "peak memory, MB", "speed-up, CPU", "rows that pass"], lines))
    if path:
        path.write_text(json.dumps({"machine": measure.machine(), "rows": rows, "costs": costs}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
