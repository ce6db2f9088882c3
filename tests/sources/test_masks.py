"""Masks in a column: of a table beside pictures, of a saved data set, of Parquet files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from brushwork import images
from brushwork.errors import ConfigError, DataError
from brushwork.sources.captioned import Captioned, Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brushwork.values import Sample

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _quiet_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the datasets library from drawing bars and from writing outside the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("cache").absolute())
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def half(side: int) -> Image.Image:
    """A mask whose left ``side`` columns are white."""
    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:, :side] = 255
    return Image.fromarray(pixels)


def table(column: str = "mask", *, masks: tuple[Any, ...] = ("masks/a.png", None, "masks/c.png"), **more: Any) -> Path:
    """Write three pictures, two of them with masks, and the table that says so."""
    folder = Path("photos")
    (folder / "masks").mkdir(parents=True)
    for index, name in enumerate(NAMES):
        picture(index).save(folder / f"{name}.png")
    half(3).save(folder / "masks" / "a.png")
    half(5).save(folder / "masks" / "c.png")
    rows = [
        {"file_name": f"{name}.png", "text": f"picture {name}", column: mask, **more}
        for name, mask in zip(NAMES, masks, strict=True)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return folder


def build(path: str = "photos", **options: Any) -> Captioned:
    return Config(path=path, **{"masks": True, **options}).build()


def white(sample: Sample) -> int | None:
    """Return how many columns of a sample's mask are white."""
    mask = sample.extra["mask"]
    if mask is None:
        return None
    return int((np.asarray(images.decode(mask.read(), "black").convert("L"))[0] == 255).sum())


def whites(source: Captioned) -> list[int | None]:
    return [white(source[index]) for index in range(len(source))]


def test_a_table_names_the_files_of_masks() -> None:
    table()
    source = build()
    assert [source[index].caption for index in range(3)] == ["picture a", "picture b", "picture c"]
    assert whites(source) == [3, None, 5]
    assert source.notes == []  # the masks are no pictures that somebody forgot to list
    source.verify()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_so_do_the_other_kinds_of_table(suffix: str) -> None:
    import pandas

    folder = table()
    rows = pandas.read_json(folder / "metadata.jsonl", lines=True)
    (folder / "metadata.jsonl").unlink()
    getattr(rows, f"to_{suffix}")(folder / f"metadata.{suffix}", index=False)
    assert whites(build()) == [3, None, 5]


def test_a_column_of_another_name_is_named() -> None:
    table("outline")
    assert whites(build(mask_column="outline")) == [3, None, 5]
    with pytest.raises(DataError, match=r"data.mask_column: .* has no column 'outlin'. Did you mean outline\?"):
        build(mask_column="outlin")
    with pytest.raises(DataError, match=r"photos has no masks. The mask of cat.jpg is cat-masklabel.png"):
        build()


def test_masks_that_nobody_asked_for_are_a_note_in_a_table() -> None:
    table()
    source = build(masks=False)
    assert source.notes[-1].endswith("a column of masks, mask, which is not used. To use it: data.masks=true.")
    assert source[0].extra == {}


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (("masks/gone.png", None, None), r"1 of 1 rows name a file that is not there: photos/masks/gone.png"),
        ((None, "", None), "the column mask names no mask in any row"),
        ((7, None, None), "metadata.jsonl:1: the file name is 7"),
    ],
)
def test_a_column_that_names_no_files_is_refused(masks: tuple[Any, ...], message: str) -> None:
    table(masks=masks)
    with pytest.raises(DataError, match=message):
        build()


def test_masks_in_two_places_are_refused() -> None:
    folder = table()
    half(2).save(folder / "b-masklabel.png")
    with pytest.raises(DataError, match=r"masks both in its table and beside the pictures \(photos/b-masklabel.png\)"):
        build()


def test_a_mask_of_another_size_is_refused() -> None:
    folder = table()
    Image.new("L", (4, 4), 255).save(folder / "masks" / "a.png")
    with pytest.raises(DataError, match=r"the mask of photos/a.png is 4x4 but the picture is 8x8"):
        build().verify()


def png(image: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return {"bytes": buffer.getvalue(), "path": None}


def save_dataset(masks: list[Image.Image | None], column: str = "mask", *, parquet: bool = False) -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    cells = {
        "image": [png(picture(index)) for index in range(3)],
        "text": [f"picture {name}" for name in NAMES],
        column: [None if mask is None else png(mask) for mask in masks],
    }
    features = Features({"image": ImageFeature(), "text": Value("string"), column: ImageFeature()})
    dataset = Dataset.from_dict(cells, features=features)
    if parquet:
        Path("saved").mkdir()
        dataset.to_parquet("saved/train.parquet")
    else:
        dataset.save_to_disk("saved")


@pytest.mark.parametrize("parquet", [False, True])
def test_a_column_of_pictures_holds_the_masks(parquet: bool) -> None:
    save_dataset([half(3), None, half(5)], parquet=parquet)
    source = build("saved")
    assert whites(source) == [3, None, 5]
    assert source[0].image.read() == png(picture(0))["bytes"]
    source.verify()
    unused = build("saved", masks=False)
    assert unused.notes[-1].startswith("saved has a column of masks, mask, which is not used")
    assert unused[0].extra == {}


def test_masks_of_a_saved_data_set_that_are_not_there_are_missed() -> None:
    save_dataset([None, None, None])
    with pytest.raises(DataError, match="saved: the column mask holds no mask in any row"):
        build("saved")
    with pytest.raises(DataError, match=r"has no column 'msk'. Did you mean mask\?"):
        build("saved", mask_column="msk")
    with pytest.raises(DataError, match="the column 'text' of saved does not hold masks"):
        build("saved", mask_column="text")


def test_a_data_set_without_such_a_column_has_no_masks() -> None:
    save_dataset([half(3), None, None], "outline")
    with pytest.raises(DataError, match=r"saved has no column of masks. Its columns: image, text, outline"):
        build("saved")
    assert whites(build("saved", mask_column="outline")) == [3, None, None]


def test_a_column_without_masks_wanted_is_refused() -> None:
    from brushwork import config

    with pytest.raises(ConfigError, match="mask_column is set but masks is false"):
        config.load({"data": {"path": "photos", "mask_column": "outline"}})


def test_captions_in_text_files_have_no_columns() -> None:
    folder = table()
    (folder / "a.txt").write_text("a", "utf-8")
    with pytest.raises(DataError, match=r"so data.mask_column cannot apply"):
        build(captions="txt", mask_column="mask", allow_bad_captions=True)
