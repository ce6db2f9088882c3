"""Which rows are fetched: presets, expressions, spellings of columns, repeats, and a DuckDB that can do no more."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brushwork.curate.build import criteria, expressions, selection, settings, tables
from brushwork.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS: list[dict[str, Any]] = [
    {"URL": "http://a.example/0.jpg", "TEXT": "a red boat", "WIDTH": 800, "HEIGHT": 600, "LANGUAGE": "en"},
    {"URL": "http://b.a.example/1.jpg", "TEXT": "a Boat's logo", "WIDTH": 300, "HEIGHT": 600, "LANGUAGE": "en"},
    {"URL": "http://c.example:81/2.jpg", "TEXT": "ein Boot", "WIDTH": 900, "HEIGHT": 900, "LANGUAGE": "DE"},
    {"URL": "http://a.example/0.jpg#x", "TEXT": "boats", "WIDTH": 2000, "HEIGHT": 600, "LANGUAGE": "en"},
    {"URL": "http://nota.example/4.jpg", "TEXT": "A RED BOAT ", "WIDTH": 600, "HEIGHT": 600, "LANGUAGE": "en"},
    {"URL": None, "TEXT": "nowhere", "WIDTH": 600, "HEIGHT": 600, "LANGUAGE": "en"},
    {"URL": "http://d.example/6.jpg", "TEXT": "  ", "WIDTH": 600, "HEIGHT": 600, "LANGUAGE": None},
    {"URL": "http://d.example/7.jpg", "TEXT": "no size", "WIDTH": None, "HEIGHT": 600, "LANGUAGE": "en"},
]
SCORES = {
    "similarity": [0.3, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, None],
    "pwatermark": [0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    "NSFW": ["UNLIKELY", "NSFW", "UNSURE", "UNLIKELY", "0.05", None, "UNLIKELY", "UNLIKELY"],
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    rows = [{**row, **{name: values[place] for name, values in SCORES.items()}} for place, row in enumerate(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def choose(table: Path, folder: Path, **filter_: Any) -> list[str]:
    """Return the reason of each row."""
    config = settings.load(metadata=[str(table)], filter=filter_)
    chosen = selection.select(config, tables.find(config.metadata), folder)
    reasons = [chosen.reasons[code] for code in chosen.codes]
    kept = [row for part in chosen.parts(2) for row in part.column("id").to_pylist()]
    assert kept == [place for place, reason in enumerate(reasons) if not reason]
    assert sum(chosen.counts().values()) == len(ROWS)
    return reasons


GONE = ["", "", "", "", "", "no-url", "no-caption", ""]


def where(places: str, reason: str) -> list[str]:
    """Return the reasons of all rows, of which some have one of their own."""
    return [reason if str(place) in places else each for place, each in enumerate(GONE)]


SHORT, AREA = "caption-length", "width * height > 500000"
ALIKE, BOOT = "where: similarity > 0.25", "where: TEXT NOT ILIKE '%boot%'"


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({}, GONE),
        ({"resolution": 600}, where("17", "resolution")),
        ({"aspect": 2.0}, where("37", "aspect")),
        ({"language": ["en", "de"]}, where("6", "language")),
        ({"language": ["EN"]}, where("26", "language")),
        ({"similarity": 0.28}, where("17", "similarity")),
        ({"watermark": 0.5}, where("1", "watermark")),
        ({"unsafe": 0.1}, where("125", "unsafe")),
        ({"caption_length": [6, 10]}, ["", SHORT, "", SHORT, SHORT, *GONE[5:]]),
        ({"domain": ["a.example"]}, where("247", "domain")),
        ({"domain": ["!a.example", "!nota.example"]}, where("0134", "domain")),
        ({"keywords": ["boat"]}, where("237", "keywords")),
        ({"keywords": ["boat", "boats", "!logo"]}, where("127", "keywords")),
        ({"dedupe": ["url"]}, where("3", "url-twice")),
        ({"dedupe": ["caption"]}, where("4", "caption-twice")),
        ({"where": [AREA]}, where("0147", f"where: {AREA}")),
        ({"where": ["similarity > 0.25", "TEXT NOT ILIKE '%boot%'"]}, ["", ALIKE, BOOT, "", "", *GONE[5:7], ALIKE]),
    ],
)  # fmt: skip
def test_each_criterion_takes_out_its_rows(
    table: Path, tmp_path: Path, filter_: dict[str, Any], expected: list[str]
) -> None:
    assert choose(table, tmp_path / "state", **filter_) == expected


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv"])
def test_tables_of_text_give_the_same_as_parquet(table: Path, tmp_path: Path, suffix: str) -> None:
    filter_ = {"resolution": 600, "unsafe": 0.1, "similarity": 0.28, "dedupe": ["caption"], "where": ["width < 1000"]}
    separator = "\t" if suffix == "tsv" else ","
    rows = pq.read_table(table).to_pylist()
    lines = [separator.join(rows[0])]
    for row in rows:
        cells = ["" if each is None else str(each) for each in row.values()]
        lines.append(separator.join(f'"{each}"' if " " in each else each for each in cells))
    lines[1] = lines[1].replace("a red boat", 'a ""red""\nboat')  # a cell over two lines
    text = ("\n".join(lines) + "\n").encode()
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    expected = choose(table, tmp_path / "a", **filter_)
    # the caption of row 4 repeats that of row 0 no more
    assert [("" if each == "caption-twice" else each) for each in expected] == choose(path, tmp_path / "b", **filter_)


def test_other_spellings_are_found_and_unusual_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.parquet"
    row = {"image_url": "http://a.example/1.jpg", "alt_text": "x", "original_width": 9, "original_height": 8, "wm": 0.9}
    pq.write_table(pa.Table.from_pylist([row]), path)
    config = settings.load(
        metadata=[str(path)], columns={"watermark": "WM"}, filter={"resolution": 8, "watermark": 0.5}
    )
    chosen = selection.select(config, [path], tmp_path / "state")
    assert [chosen.reasons[code] for code in chosen.codes] == ["watermark"]


def test_rows_of_several_tables_count_on_and_the_first_of_all_is_kept(table: Path, tmp_path: Path) -> None:
    config = settings.load(metadata=[str(table)], filter={"dedupe": ["url"]})
    copy = tmp_path / "zopy.parquet"
    copy.write_bytes(table.read_bytes())
    chosen = selection.select(config, [table, copy], tmp_path / "state")
    reasons = [chosen.reasons[code] for code in chosen.codes]
    assert reasons[8:] == ["url-twice"] * 5 + ["no-url", "no-caption", "url-twice"]
    assert reasons[:8] == where("3", "url-twice")


def test_a_selection_is_made_once_and_refused_when_the_table_changed(table: Path, tmp_path: Path) -> None:
    config = settings.load(metadata=[str(table)])
    first = selection.select(config, [table], tmp_path / "state")
    stamp = (tmp_path / "state" / "codes.bin").stat().st_mtime_ns
    again = selection.select(config, [table], tmp_path / "state")
    assert first == again
    assert (tmp_path / "state" / "codes.bin").stat().st_mtime_ns == stamp
    pq.write_table(pq.read_table(table).slice(1), table)
    with pytest.raises(DataError, match="changed since"):
        selection.select(config, [table], tmp_path / "state")


@pytest.mark.parametrize(
    "expression",
    [
        "width > (SELECT 1)",
        "EXISTS (SELECT * FROM read_text('/etc/hostname'))",
        "getenv('HOME') = 'x'",
        "current_setting('memory_limit') = '1'",
        "query('SELECT 1') = 1",
        "rank() OVER () = 1",
        "width > ?",
        "list_transform([1], x -> x) = [1]",
        "1 = 1) OR (1 = 1); DROP TABLE t; --",
        "1 = 1) UNION SELECT 1 FROM read_csv('x') WHERE (1 = 1",
        "1 = 1) GROUP BY (1",
        "1 = 1) ORDER BY (1",
        "1 = 1) LIMIT (1",
        "other.width > 3",
        "widht > 3",
        "main.lower(caption) = 'x'",
        "* IS NULL",
        "COLUMNS('.*') = 1",
        "nextval('s') = 1",
        "",
        "width >",
    ],
)  # fmt: skip
def test_expressions_that_are_more_than_conditions_are_refused(table: Path, tmp_path: Path, expression: str) -> None:
    config = settings.load(metadata=[str(table)], filter={"where": [expression]})
    with pytest.raises(ConfigError, match=r"filter\.where"):
        selection.check(config, [table], tmp_path)


def test_a_misspelt_column_or_function_gets_the_nearest_name(table: Path, tmp_path: Path) -> None:
    with tables.database([table], tmp_path, 100) as connection:
        with pytest.raises(ConfigError, match="Did you mean width"):
            expressions.check(connection, "widht > 3", ["width", "height"])
        with pytest.raises(ConfigError, match="Did you mean lower"):
            expressions.check(connection, "lover(caption) = 'x'", ["caption"])


def test_the_database_reads_its_tables_and_nothing_else(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    other.write_bytes(table.read_bytes())
    (tmp_path / "scratch").mkdir()
    with tables.database([table], tmp_path / "scratch", 100) as connection:
        assert connection.execute(f"SELECT count(*) FROM '{table}'").fetchall() == [(8,)]  # noqa: S608  (our own path)
        for query in (
            f"FROM '{other}'",
            "SELECT * FROM read_text('/etc/hostname')",
            f"COPY (SELECT 1) TO '{tmp_path}/x.csv'",
            f"ATTACH '{tmp_path}/x.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET enable_external_access = true",
            "SET memory_limit = '9GB'",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(query)


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ({"aesthetic": 5}, "filter.aesthetic needs the metadata's column of aesthetic"),
        ({"similarty": 0.3}, "filter.similarty is not a known key. Did you mean similarity"),
        ({"caption_length": [9, 3]}, "the fewest, 9, is more than the most, 3"),
        ({"domain": ["!"]}, "an entry is empty"),
        ({"resolution": 0}, "filter.resolution"),
    ],
)
def test_wrong_criteria_are_said(table: Path, tmp_path: Path, filter_: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        selection.check(settings.load(metadata=[str(table)], filter=filter_), [table], tmp_path)
    assert message in str(caught.value)


def test_presets_stand_for_criteria() -> None:
    assert criteria.unfold(["laion", "resolution=768", "language=en,de"]) == {
        "resolution": "768", "aspect": 2.0, "similarity": 0.28, "watermark": 0.5, "unsafe": 0.1,
        "caption_length": [5, 300], "dedupe": ["url", "caption"], "language": ["en", "de"],
    }  # fmt: skip
    config = settings.load({"metadata": "x.csv", "filter": {"aspect": 3}}, presets=["laion", "keywords=cat,!dog"])
    assert (config.filter.aspect, config.filter.resolution, config.filter.keywords) == (3, 512, ("cat", "!dog"))


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("similarty", "Did you mean similarity"),
        ("keywords", "needs a value"),
        ("laion=3", "takes no value"),
    ],
)
def test_wrong_presets_are_said(preset: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        criteria.unfold([preset])


def test_wrong_tables_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no file"):
        tables.find([str(tmp_path / "*.parquet")])
    (tmp_path / "a.json").write_text("{}", "utf-8")
    with pytest.raises(DataError, match="is none of"):
        tables.find([str(tmp_path / "a.json")])
    (tmp_path / "a.parquet").write_text("nothing", "utf-8")
    (tmp_path / "b.csv").write_text("URL,WORDS\n", "utf-8")
    (tmp_path / "c.csv").write_text("URL,URL\n", "utf-8")
    (tmp_path / "d.csv").write_text("URL,TEXT\nx,y\nx,y,z\n", "utf-8")
    messages = {"a.parquet": "not a readable Parquet", "b.csv": "no column of captions", "c.csv": "every column once"}
    for name, message in messages.items():
        config = settings.load(metadata=[str(tmp_path / name)])
        with pytest.raises(DataError, match=message):
            selection.check(config, [tmp_path / name], tmp_path)
    with pytest.raises(DataError, match=r"d\.csv cannot be filtered"):
        selection.select(settings.load(metadata=["d.csv"]), [tmp_path / "d.csv"], tmp_path / "state")


def test_the_order_and_number_of_rows_do_not_depend_on_the_size_of_row_groups(tmp_path: Path) -> None:
    count = 5000
    urls, sizes = [f"http://a.example/{n}" for n in range(count)], np.arange(count)
    rows = pa.table({"url": urls, "text": ["x"] * count, "width": sizes, "height": sizes})
    for size in (7, 5000):
        path = tmp_path / f"{size}.parquet"
        pq.write_table(rows, path, row_group_size=size)
        config = settings.load(metadata=[str(path)], filter={"resolution": 3})
        chosen = selection.select(config, [path], tmp_path / f"state-{size}")
        ids = [row for part in chosen.parts(999) for row in part.column("id").to_pylist()]
        assert ids == list(range(3, count))
