"""A sample costs a few dozen bytes, whatever its caption, from the source to the order of an epoch.

``benchmarks/samples.py`` measures the same with a million samples and real shards.
"""

from __future__ import annotations

import json
import pickle
import tracemalloc
from random import Random
from typing import TYPE_CHECKING

import pytest

from brushwork import progress
from brushwork.batches import Examples
from brushwork.digests import Digests, different
from brushwork.encoding import read
from brushwork.pictures import Pictures
from brushwork.readers import folder as folders
from brushwork.readers import metadata, spool
from brushwork.readers.arrow import Encoded
from brushwork.readers.spool import Spool
from brushwork.sources.captioned import Config
from brushwork.values import Sample

if TYPE_CHECKING:
    from pathlib import Path

MOST = 50
"""Bytes a sample: 50 MB for a million."""


class Many:
    """A source of pictures that are nothing but their number."""

    def __init__(self, count: int) -> None:
        self.rows = Spool(["a long caption " * 5, number] for number in range(count))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        caption, number = self.rows[index]
        return Sample(f"picture {number}", Encoded(number.to_bytes(4, "big")), f"{caption}{number}")


def peak(count: int) -> int:
    """Return the bytes that are held at most on the way from a source to the loop."""
    tracemalloc.start()
    settings = Config(path="x", resolution=8)
    data = read(Many(count), settings, seed=0)
    examples = Examples(Pictures(data, settings, None, "float32", 8), seed=0)
    assert len({examples.sample(position).name for position in range(40)}) == 40
    assert data.pictures(data.own) == count - 32
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_many_samples_cost_little_more_than_few() -> None:
    progress.silence()
    peak(1000)  # what is imported and remembered only once
    few, many = peak(2000), peak(12_000)
    assert (many - few) / 10_000 < MOST


@pytest.mark.parametrize("table", [None, "jsonl", "csv", "parquet"])
def test_pictures_in_one_folder_cost_little_more_than_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None
) -> None:
    """What is sorted in memory, or read of a table, at a time is made small, so that some thousand are many."""
    monkeypatch.setattr(spool, "SORTED", 500)
    monkeypatch.setattr(spool, "BUFFER", 1000)
    monkeypatch.setattr(metadata, "BATCH", 100)
    progress.silence()
    few, many = (tmp_path / str(count) for count in (300, 2300))
    for folder in (few, many):
        folder.mkdir()
        names = [f"{number:05}" for number in range(int(folder.name))]
        for name in names:
            (folder / f"{name}.png").touch()
            if table is None:
                (folder / f"{name}.txt").write_text(f"{'a long caption ' * 5}{name}", "utf-8")
        rows = {
            "file_name": [f"{name}.png" for name in names],
            "text": ["a long caption " * 5 + name for name in names],
        }
        if table is not None:
            write_table(folder / f"metadata.{table}", rows)
    listed_peak(few)  # what is imported and remembered only once
    assert (listed_peak(many) - listed_peak(few)) / 2000 < MOST


def listed_peak(folder: Path) -> int:
    """Return the bytes that are held at most until a folder's pictures and captions are found."""
    tracemalloc.start()
    source = Config(path=str(folder)).build()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    last = int(folder.name) - 1
    assert (len(source), source[last].caption) == (last + 1, f"{'a long caption ' * 5}{last:05}")
    return most


def write_table(path: Path, rows: dict[str, list[str]]) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    whole = pa.table(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(whole, path, row_group_size=100)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(whole, path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in whole.to_pylist()), "utf-8")


def test_names_are_in_order_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SORTED", 7)
    for count in (0, 6, 7, 8, 50):
        names = [f"{number * 37 % 101}.ä" for number in range(count)]
        found = spool.in_order(iter(names))
        assert list(found) == list(found) == sorted(names)


def test_pictures_find_their_captions_without_a_map_of_all() -> None:
    """Against a map by stems: names with dots, blanks and dashes sort between a picture and its caption."""
    stems = ["a", "a-b", "a.b", "a.b.c", "a b", "ab", "A", "b.a"]
    suffixes = [".jpg", ".PNG", ".txt", ".caption", ".TXT", "", ".json", ".zip"]
    random = Random(0)  # noqa: S311  (no secret)
    for _ in range(300):
        files = sorted(f"/x/{stem}{suffix}" for stem in stems for suffix in suffixes if random.random() < 0.4)
        texts = folders.beside(files)
        expected = [(path, sorted(texts.get(folders.stem(path), []))) for path in folders.pictures(files)]
        found = list(folders.matched(files))
        assert [pair for pair in found if pair[0] is not None] == expected
        stems_of_pictures = {folders.stem(path) for path in folders.pictures(files)}
        orphans = {path for stem, paths in texts.items() if stem not in stems_of_pictures for path in paths}
        assert {path for picture, paths in found if picture is None for path in paths} == orphans


def test_a_spool_is_a_list_that_other_processes_can_read() -> None:
    rows = [["a", None], {"b": ["c", "ä\udcff"]}, 3, "x" * 3_000_000]
    spool = Spool(rows)
    assert list(spool) == rows
    assert list(pickle.loads(pickle.dumps(spool))) == rows  # noqa: S301  (just written)
    spool.append("later")
    assert (spool[4], len(spool)) == ("later", 5)
    with pytest.raises(IndexError):
        spool[5]


def test_digests_are_a_list_of_texts_in_sixteen_bytes_each() -> None:
    import numpy as np

    texts = ["cf4ab791c62b8d2b2109c90275287816", "", "00" * 15 + "01", "cf4ab791c62b8d2b2109c90275287816"]
    digests = Digests(texts)
    assert digests == texts
    digests[1] = texts[0]
    assert digests.at(np.array([1, 2])) == [texts[0], texts[2]]
    assert different(digests.lots(np.arange(4))) == 2
    assert different(digests.lots(np.arange(0))) == 0
    with pytest.raises(IndexError):
        digests[4]
