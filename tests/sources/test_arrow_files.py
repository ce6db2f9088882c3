"""Saved data sets are read from their files a record batch at a time: the same rows as ``datasets`` reads."""

from __future__ import annotations

import io
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pytest
from PIL import Image

from brushwork.errors import DataError
from brushwork.readers import arrow, batches

if TYPE_CHECKING:
    from pathlib import Path


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (number % 256, number // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def make(count: int) -> datasets.Dataset:
    rows = {
        "image": [{"bytes": picture(each), "path": None} for each in range(count)],
        "text": [f"thing {each}" if each % 7 else None for each in range(count)],
        "captions": [[f"a {each}", f"b {each}"][: each % 3] for each in range(count)],
    }
    features = datasets.Features(
        image=datasets.Image(), text=datasets.Value("string"), captions=datasets.List(datasets.Value("string"))
    )
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrow") / "saved"
    make(257).save_to_disk(folder, num_shards=3)  # 86, 86 and 85 rows, in batches of some size
    return folder


def test_the_cells_are_those_of_datasets(saved: Path) -> None:
    dataset = arrow.from_disk(saved, "train")
    sliced, whole = batches.of(dataset), batches.Whole(dataset)
    assert sliced is not None
    assert len(sliced) == len(whole) == 257
    for column in dataset.features:
        for start, stop in ((0, 257), (0, 1), (256, 257), (80, 95), (171, 173), (5, 5), (250, 999)):
            assert sliced.cells(column, start, stop) == whole.cells(column, start, stop), (column, start)
    for row in np.random.default_rng(0).permutation(257)[:40]:
        assert sliced.cells("image", int(row), int(row) + 1) == whole.cells("image", int(row), int(row) + 1)


def test_a_saved_one_is_opened_without_datasets_and_a_damaged_one_with_its_words(saved: Path, tmp_path: Path) -> None:
    table = arrow.saved(saved, "train")
    assert isinstance(table, batches.Sliced)
    assert table.features == arrow.from_disk(saved, "train").features
    datasets.DatasetDict(train=make(5), test=make(3)).save_to_disk(tmp_path / "two")
    assert [len(arrow.saved(tmp_path / "two", each)) for each in ("train", "test")] == [5, 3]
    with pytest.raises(DataError, match=r"no split 'tset'.*test"):
        arrow.saved(tmp_path / "two", "tset")
    broken = shutil.copytree(saved, tmp_path / "broken")
    file = sorted(broken.glob("*.arrow"))[1]
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError, match="not a readable saved data set"):
        arrow.saved(broken, "train")
    (broken / "state.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match="not a readable saved data set"):
        arrow.saved(broken, "train")


def test_it_survives_pickling_and_a_picture_takes_nothing_else_along(saved: Path) -> None:
    sliced = batches.of(arrow.from_disk(saved, "train"))
    again = pickle.loads(pickle.dumps(sliced))  # noqa: S301  (our own)
    assert again.cells("text", 100, 103) == ["thing 100", "thing 101", "thing 102"]
    rows = arrow.rows(arrow.from_disk(saved, "train"), None, "text", "x")
    sent = pickle.dumps(rows[200].image)
    assert pickle.loads(sent).read() == picture(200)  # noqa: S301  (our own)
    assert len(sent) < 2 * len(picture(200)) + 200
    with pytest.raises(IndexError):
        rows[257]


@pytest.mark.parametrize("change", ["filter", "sort", "part", "memory"])
def test_what_is_not_just_its_files_is_read_by_datasets(saved: Path, change: str) -> None:
    dataset = arrow.from_disk(saved, "train")
    changed: dict[str, Any] = {
        "filter": lambda: dataset.select(range(0, 200, 2)),
        "sort": lambda: dataset.shuffle(seed=1),
        "part": lambda: dataset.select(range(10)),
        "memory": lambda: make(5),
    }
    made = changed[change]()
    assert batches.of(made) is None
    rows = arrow.rows(made, None, "text", "x")
    assert [caption or None for caption in rows.captions()] == made["text"][:]
    assert rows[4].image.read() == made.cast_column("image", datasets.Image(decode=False))[4]["image"]["bytes"]


def test_no_record_batch_is_kept_open(saved: Path) -> None:
    """Nothing but three numbers for each: the list of them is what a million rows cost."""
    sliced = batches.of(arrow.from_disk(saved, "train"))
    assert sliced is not None
    assert sliced._places.dtype == np.int64
    assert sliced._places[:, 2].sum() == 257
    assert not any("RecordBatch" in type(each).__name__ for each in vars(sliced).values())
