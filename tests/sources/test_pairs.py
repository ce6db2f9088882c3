"""Preference pairs are found in every form that people have them in; what is wrong is said before training starts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from brushwork import images
from brushwork.errors import DataError
from brushwork.sources.pairs import Config, Pairs

COLOURS = {"a": "red", "b": "lime", "c": "blue"}


@pytest.fixture
def folder() -> Path:
    """Three pictures and no table."""
    path = Path("votes")
    path.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(path / f"{name}.png")
    return path


def encoded(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def table(*rows: dict[str, Any]) -> None:
    Path("votes", "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


def shown(source: Pairs) -> list[tuple[str, Any, Any]]:
    def colour(data: bytes) -> Any:
        return {(255, 0, 0): "red", (0, 255, 0): "lime", (0, 0, 255): "blue"}[images.decode(data).getpixel((0, 0))]

    every = [source[index] for index in range(len(source))]
    return [(each.caption, colour(each.image.read()), colour(each.extra["rejected"].read())) for each in every]


def said(path: str = "votes", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        Config(path=path, **options).build()
    assert str(caught.value).count("\n") <= 2
    return str(caught.value)


def vote(label: Any, **more: Any) -> dict[str, Any]:
    return {"image_0": "a.png", "image_1": "b.png", "label_0": label, "text": "a square", **more}


@pytest.mark.usefixtures("folder")
def test_a_table_names_the_chosen_and_the_rejected_picture() -> None:
    table(
        {"chosen": "a.png", "rejected": "b.png", "text": "one"}, {"chosen": "c.png", "rejected": "a.png", "text": "two"}
    )
    source = Config(path="votes").build()
    source.verify()
    assert shown(source) == [("one", "red", "lime"), ("two", "blue", "red")]
    assert source.notes == []


def test_csv_and_parquet_say_the_same_as_jsonl(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "metadata.csv").write_text('image_0,image_1,label_0,text\na.png,b.png,0,"one, two"\na.png,c.png,,x\n')
    csv = shown(Config(path="votes").build())
    (folder / "metadata.csv").unlink()
    rows = [{"image_0": "a.png", "image_1": "b.png", "label_0": 0.0, "text": "one, two"}, vote(0.5)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
    assert csv == shown(Config(path="votes").build()) == [("one, two", "lime", "red")]


@pytest.mark.usefixtures("folder")
def test_labels_decide_and_ties_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    votes = [vote(1), vote(0), vote(0.5), vote(None), vote(1.0, label_1=0.0), vote(0, label_1=0), vote(True)]
    table(*votes)
    source = Config(path="votes").build()
    assert [chosen for _, chosen, _ in shown(source)] == ["red", "lime", "red", "red"]
    assert "3 of 7 rows of votes/metadata.jsonl are ties and are left out." in capsys.readouterr().err


def test_the_columns_of_pick_a_pic_are_known_saved_or_in_parquet_files() -> None:
    """jpg_0 and jpg_1 are bare bytes there, and many other columns are text."""
    from datasets import Dataset

    rows = {
        "best_image_uid": ["u", "v", "w"],
        "caption": ["one", "two", "three"],
        "jpg_0": [encoded("red")] * 3,
        "jpg_1": [encoded("lime"), encoded("blue"), encoded("lime")],
        "label_0": [0.0, 0.5, 1.0],
        "label_1": [1.0, 0.5, 0.0],
    }
    Dataset.from_dict(rows).save_to_disk("saved")
    Path("shards").mkdir()
    Dataset.from_dict(rows).to_parquet("shards/train-0.parquet")
    for path in ("saved", "shards"):
        source = Config(path=path).build()
        source.verify()
        assert shown(source) == [("one", "lime", "red"), ("three", "red", "lime")]
        assert source[1].name == f"{path}[2]"
        assert source.notes == [f"1 of 3 rows of {path} are ties and are left out."]


def test_a_data_set_of_chosen_and_rejected_images_needs_no_labels() -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as Picture

    features = Features({"chosen": Picture(), "rejected": Picture(), "prompt": Value("string")})
    cells = {"chosen": encoded("red"), "rejected": encoded("blue")}
    Dataset.from_dict(
        {**{name: [{"bytes": data, "path": None}] for name, data in cells.items()}, "prompt": ["one"]}, features
    ).save_to_disk("saved")
    assert shown(Config(path="saved").build()) == [("one", "red", "blue")]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file_name": "a.png", "text": "x"}], r"has no preference pairs\. Its columns: file_name, text"),
        ([vote(0.7)], r"metadata\.jsonl:1: label_0 is 0\.7\. It must be 1"),
        ([vote("a")], r"label_0 is 'a'"),
        ([vote(0.5)], r"none of the 1 rows prefers"),
        ([vote(1, image_1="z.png")], r"1 of 1 rows name a file that is not there: votes/z\.png"),
        ([vote(1, text="")], r"votes: 1 of 1 pairs have no caption: votes/a\.png"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(rows: list[dict[str, Any]], message: str) -> None:
    import re

    table(*rows)
    assert re.search(message, said())


def test_a_folder_without_a_table_is_told_how_a_line_looks(folder: Path) -> None:
    assert '{"chosen": "a.png", "rejected": "b.png", "text": "a cat"}' in said(str(folder))


@pytest.mark.usefixtures("folder")
def test_an_option_without_an_effect_is_refused() -> None:
    table(vote(1))
    assert "votes is a folder with a table, so data.subset cannot apply" in said(subset="x")


def test_columns_that_hold_no_pictures_are_refused() -> None:
    from datasets import Dataset

    Dataset.from_dict({"jpg_0": ["a"], "jpg_1": ["b"], "label_0": [1.0], "caption": ["x"]}).save_to_disk("saved")
    assert "the column jpg_0, jpg_1 holds string, not pictures" in said("saved")


def test_a_broken_rejected_picture_is_found_by_verify(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"no picture")
    table(vote(1))
    with pytest.raises(DataError, match=r"1 of 2 pictures cannot be used[\s\S]*a\.png \(rejected\)"):
        Config(path="votes").build().verify()
