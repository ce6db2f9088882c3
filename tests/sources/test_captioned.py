"""Pictures with captions are found wherever they lie, and what is wrong with them is said before training starts."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from brushwork import images, progress
from brushwork.errors import DataError
from brushwork.readers import arrow
from brushwork.sources import captioned
from brushwork.sources.captioned import Captioned, Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brushwork.values import Source

COLOURS = {"a": "red", "b": "lime", "c": "blue"}
CAPTIONS = {"a": "a red square", "b": "a green square", "c": "a blue square"}


def paint(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


@pytest.fixture
def bare() -> Path:
    """Three pictures without captions."""
    for name, colour in COLOURS.items():
        paint(Path("photos", f"{name}.png"), colour)
    return Path("photos")


@pytest.fixture
def photos(bare: Path) -> Path:
    """Three pictures with their captions beside them."""
    for name, caption in CAPTIONS.items():
        (bare / f"{name}.txt").write_text(caption, "utf-8")
    return bare


def build(path: str | Path = "photos", **options: Any) -> Captioned:
    return Config(path=str(path), **options).build()


def captions(source: Source) -> list[str]:
    return [source[index].caption for index in range(len(source))]


def colours(source: Source) -> list[tuple[int, ...]]:
    decoded = (images.decode(source[index].image.read()) for index in range(len(source)))
    return [image.getpixel((0, 0)) for image in decoded]


def said(path: str | Path = "photos", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        build(path, **options)
    message = str(caught.value)
    assert message.count("\n") <= 2, message
    return message


RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


# A folder with captions beside the pictures


def test_captions_beside_the_pictures_are_read(photos: Path) -> None:
    source = build(photos)
    assert captions(source) == list(CAPTIONS.values())
    assert colours(source) == RGB
    assert [source[index].name for index in range(3)] == ["photos/a.png", "photos/b.png", "photos/c.png"]
    assert source.notes == []


def test_dot_caption_files_are_read_as_dot_txt_files_are(photos: Path) -> None:
    for path in photos.glob("*.txt"):
        path.rename(path.with_suffix(".caption"))
    assert captions(build(photos)) == list(CAPTIONS.values())


def test_folders_below_are_read_and_hidden_files_are_not(photos: Path) -> None:
    paint(photos / "deep" / "er" / "D.JPG")
    (photos / "deep" / "er" / "D.TXT").write_text("deep", "utf-8")
    for hidden in ("._a.png", ".thumbnails/a.png", "__MACOSX/a.png"):
        (photos / hidden).parent.mkdir(exist_ok=True)
        (photos / hidden).write_bytes(b"no picture")
    assert captions(build(photos)) == [*CAPTIONS.values(), "deep"]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "bmp", "tiff", "tif", "gif", "avif"])
def test_every_format_that_is_promised_is_read(suffix: str) -> None:
    paint(Path("photos", f"x.{suffix}")).with_suffix(".txt").write_text("x", "utf-8")
    source = build()
    source.verify()
    assert captions(source) == ["x"]


def test_two_pictures_may_share_one_caption(photos: Path) -> None:
    paint(photos / "a.jpg")
    assert captions(build(photos)) == [CAPTIONS["a"], *CAPTIONS.values()]


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfa red  square", b"a red\r\nsquare\r\n", b"\n a red square \n\n", b"a\tred square"]
)
def test_byte_order_marks_line_ends_and_spare_blanks_are_no_part_of_a_caption(photos: Path, data: bytes) -> None:
    (photos / "a.txt").write_bytes(data)
    assert captions(build(photos)) == list(CAPTIONS.values())


@pytest.mark.parametrize(("text", "encoding", "byte"), [("café", "latin-1", "0xe9"), ("a cat", "utf-16", "0xff")])
def test_a_caption_that_is_not_utf8_is_named(photos: Path, text: str, encoding: str, byte: str) -> None:
    (photos / "b.txt").write_bytes(text.encode(encoding))
    assert said(photos).startswith("photos/b.txt: the text is not UTF-8")
    assert byte in said(photos)


def test_two_captions_for_one_picture_are_refused_until_one_kind_is_chosen(photos: Path) -> None:
    (photos / "a.caption").write_text("another", "utf-8")
    assert said(photos) == (
        "1 of 3 pictures have both a .txt and a .caption (photos/a.png).\n"
        "Say which one is meant: data.captions=txt or data.captions=caption"
    )
    assert captions(build(photos, captions="txt")) == list(CAPTIONS.values())
    assert captions(build(photos, captions="caption", allow_bad_captions=True)) == ["another", "", ""]


def test_a_folder_without_pictures_says_what_it_holds() -> None:
    Path("photos").mkdir()
    assert said().startswith("photos: no pictures in this folder. It holds nothing;")
    for name in ("a.heic", "b.heic", "c.txt"):
        Path("photos", name).write_bytes(b"x")
    assert "It holds 2 .heic, 1 .txt; read are .avif, .bmp" in said()


def test_pictures_in_a_format_that_is_not_read_are_mentioned(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "phone.HEIC").write_bytes(b"x")
    source = build(photos)
    assert len(source) == 3
    assert "1 files are in a format that is not read and are left out: photos/phone.HEIC" in source.notes[0]
    assert source.notes[0] in capsys.readouterr().err


# Captions that teach nothing


def test_missing_and_empty_captions_stop_the_run_with_their_number_and_the_first_names(photos: Path) -> None:
    (photos / "a.txt").write_text(" \n", "utf-8")
    (photos / "c.txt").unlink()
    assert said(photos) == (
        "photos: 2 of 3 pictures have no caption or an empty one: photos/a.png, photos/c.png.\n"
        "To train on them all the same: data.allow_bad_captions=true"
    )
    source = build(photos, allow_bad_captions=True)
    assert captions(source) == ["", CAPTIONS["b"], ""]
    assert "2 of 3 pictures have no caption" in source.notes[0]


def test_a_folder_without_any_caption_is_refused(bare: Path) -> None:
    assert "3 of 3 pictures have no caption" in said(bare)
    assert captions(build(bare, allow_bad_captions=True)) == ["", "", ""]


def test_caption_files_that_belong_to_no_picture_are_mentioned_when_captions_are_missing(bare: Path) -> None:
    for name, caption in CAPTIONS.items():
        (bare / f"{name}.png.txt").write_text(caption, "utf-8")
    assert "3 caption files belong to no picture: photos/a.png.txt, photos/b.png.txt" in said(bare)


def test_captions_that_are_all_the_same_stop_the_run(photos: Path) -> None:
    for path in photos.glob("*.txt"):
        path.write_text("a photo", "utf-8")
    assert said(photos).startswith("photos: all 3 captions are the same: 'a photo'.\n")
    assert captions(build(photos, allow_bad_captions=True)) == ["a photo"] * 3


def test_a_single_picture_may_have_a_single_caption() -> None:
    paint(Path("photos/a.png")).with_suffix(".txt").write_text("a photo", "utf-8")
    assert captions(build()) == ["a photo"]


# A table of captions


def rows(caption: str = "text", name: str = "file_name") -> list[dict[str, str]]:
    return [{name: f"{each}.png", caption: text} for each, text in CAPTIONS.items()]


def write_jsonl(folder: Path, table: list[dict[str, Any]], end: str = "\n") -> Path:
    path = folder / "metadata.jsonl"
    path.write_bytes(end.join(json.dumps(row) for row in table).encode())
    return path


def write_csv(folder: Path, table: list[dict[str, Any]]) -> Path:
    import csv

    with (folder / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return folder / "metadata.csv"


def write_parquet(folder: Path, table: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(table), folder / "metadata.parquet")
    return folder / "metadata.parquet"


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


@pytest.mark.parametrize("column", ["text", "caption", "prompt", "TEXT", "anything"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_gives_the_captions_of_the_files_that_it_names(bare: Path, kind: str, column: str) -> None:
    WRITERS[kind](bare, rows(column))
    source = build(bare)
    assert captions(source) == list(CAPTIONS.values())
    assert colours(source) == RGB


@pytest.mark.parametrize("kind", WRITERS)
def test_a_misspelt_column_is_answered_with_the_nearest_and_with_all(bare: Path, kind: str) -> None:
    WRITERS[kind](bare, rows("caption"))
    assert said(bare, caption_column="captoin") == (
        f"data.caption_column: photos/metadata.{kind} has no column 'captoin'. Did you mean caption?"
        f" Its columns: file_name, caption."
    )
    assert "has no column 'zzz'. Known: caption, file_name." in said(bare, image_column="zzz")


def test_several_columns_of_captions_are_never_guessed_among(bare: Path) -> None:
    write_jsonl(bare, [row | {"caption": "short"} for row in rows()])
    assert said(bare) == (
        "photos/metadata.jsonl has several columns that could hold the captions: text, caption.\n"
        "Say which one: data.caption_column=text"
    )
    assert captions(build(bare, caption_column="text")) == list(CAPTIONS.values())


def test_a_table_without_file_names_or_without_captions_says_which_columns_it_has(bare: Path) -> None:
    write_jsonl(bare, [{"url": "x", "text": "y"}])
    assert said(bare) == "photos/metadata.jsonl has no column of file names. Its columns: url, text."
    write_jsonl(bare, [{"file_name": "a.png"}])
    assert said(bare) == "photos/metadata.jsonl has no column of captions. Its columns: file_name."
    write_jsonl(bare, [{"where": f"{name}.png", "text": text} for name, text in CAPTIONS.items()])
    assert captions(build(bare, image_column="where")) == list(CAPTIONS.values())


def test_rows_whose_file_is_missing_are_counted_and_named(bare: Path) -> None:
    write_jsonl(bare, [*rows(), {"file_name": "gone.png", "text": "x"}, {"file_name": "gone2.png", "text": "y"}])
    assert said(bare) == (
        "photos/metadata.jsonl: 2 of 5 rows name a file that is not there: photos/gone.png, photos/gone2.png."
    )


def test_pictures_without_a_row_are_left_out_and_mentioned(bare: Path) -> None:
    write_jsonl(bare, rows()[:2])
    source = build(bare)
    assert len(source) == 2
    assert source.notes == ["1 pictures have no row in photos/metadata.jsonl and are left out: photos/c.png."]


def test_a_table_from_windows_is_read(bare: Path) -> None:
    paint(bare / "deep" / "d.png")
    path = write_jsonl(bare, [*rows(), {"file_name": "deep\\d.png", "text": "deep"}], end="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert captions(build(bare)) == [*CAPTIONS.values(), "deep"]


def test_a_null_caption_is_a_missing_one(bare: Path) -> None:
    write_jsonl(bare, [*rows()[:2], {"file_name": "c.png", "text": None}])
    assert "1 of 3 pictures have no caption or an empty one: photos/c.png" in said(bare)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n{oops', "photos/metadata.jsonl:2 is not JSON"),
        ("metadata.jsonl", b'["a.png", "x"]', "photos/metadata.jsonl:1 is not an object"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": 7}', "photos/metadata.jsonl:1: the caption is 7, not text"),
        ("metadata.jsonl", b'{"file_name": 7, "text": "x"}', "photos/metadata.jsonl:1: the file name is 7"),
        ("metadata.jsonl", b'{"file_name": "caf\xe9", "text": "x"}', "photos/metadata.jsonl: the text is not UTF-8"),
        ("metadata.jsonl", b"\n", "photos/metadata.jsonl: the table has no rows"),
        ("metadata.csv", b"file_name,text\na.png,one, two", "photos/metadata.csv:2 has not as many fields"),
        ("metadata.csv", b"file_name,text\na.png", "photos/metadata.csv:2 has not as many fields"),
        ("metadata.csv", b'file_name,text\na.png,"open', "photos/metadata.csv is not CSV near line 2"),
        ("metadata.parquet", b"PAR1", "photos/metadata.parquet is not a readable Parquet file"),
    ],
)
def test_a_damaged_table_is_named_with_the_line(bare: Path, name: str, data: bytes, message: str) -> None:
    (bare / name).write_bytes(data)
    assert said(bare).startswith(message)


def test_two_tables_are_one_too_many(bare: Path) -> None:
    write_jsonl(bare, rows())
    write_csv(bare, rows())
    assert said(bare).startswith("photos has several tables of captions: metadata.jsonl, metadata.csv.")


def test_a_table_and_captions_beside_the_pictures_are_refused_until_one_is_chosen(photos: Path) -> None:
    write_jsonl(photos, [{"file_name": f"{name}.png", "text": name} for name in CAPTIONS])
    assert said(photos) == (
        "photos has both metadata.jsonl and 3 captions beside the pictures "
        "(photos/a.txt, photos/b.txt, photos/c.txt).\n"
        "Say which are meant: data.captions=metadata or data.captions=txt"
    )
    assert captions(build(photos, captions="metadata")) == ["a", "b", "c"]
    assert captions(build(photos, captions="txt")) == list(CAPTIONS.values())


def test_a_table_in_the_folder_of_the_split_is_found(bare: Path) -> None:
    for split in ("train", "test"):
        paint(bare / split / "x.png")
        write_jsonl(bare / split, [{"file_name": "x.png", "text": split}])
    assert captions(build(bare)) == ["train"]
    assert captions(build(bare, split="test")) == ["test"]


def test_options_that_would_do_nothing_are_refused(photos: Path) -> None:
    assert "so data.caption_column cannot apply" in said(photos, caption_column="text")
    assert "so data.revision cannot apply" in said(photos, revision="main")
    assert "so data.subset cannot apply" in said(photos, subset="v2")
    assert "photos has none of metadata.jsonl" in said(photos, captions="metadata")


# Data sets of the datasets library


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def make_dataset(**columns: Any) -> Any:
    """Make a data set of three rows; the value ``Image`` stands for a column of pictures."""
    import datasets

    pictures = [Image.new("RGB", (8, 8), colour) for colour in COLOURS.values()]
    table = {name: pictures if values is Image else values for name, values in columns.items()}
    dataset = datasets.Dataset.from_dict({name: values for name, values in table.items() if values is not pictures})
    for name, values in table.items():
        if values is pictures:
            dataset = dataset.add_column(name, [{"path": None, "bytes": png(each)} for each in pictures])
            dataset = dataset.cast_column(name, datasets.Image())
    return dataset.select_columns(list(columns))


@pytest.fixture(autouse=True)
def _quiet_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the datasets library from drawing bars and from writing outside the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("cache").absolute())
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def saved() -> Path:
    make_dataset(image=Image, text=list(CAPTIONS.values()), number=[1, 2, 3]).save_to_disk("saved")
    return Path("saved")


def test_a_saved_data_set_is_read(saved: Path) -> None:
    source = build(saved)
    assert captions(source) == list(CAPTIONS.values())
    assert colours(source) == RGB
    assert source[1].name == "saved[1]"
    source.verify()


def test_pictures_of_a_saved_data_set_stay_encoded_until_they_are_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", None)
    assert build(saved)[0].image.read().startswith(b"\x89PNG")


def test_a_sample_and_its_source_survive_the_way_to_another_process(saved: Path, photos: Path) -> None:
    for path in (saved, photos):
        source = build(path)
        sent = pickle.loads(pickle.dumps(source))  # noqa: S301  (our own bytes)
        sample = pickle.loads(pickle.dumps(source[1]))  # noqa: S301
        assert sent[1].image.read() == sample.image.read() == source[1].image.read()
        assert sent[1].caption == sample.caption == CAPTIONS["b"]


def test_the_split_of_a_saved_data_set_is_chosen_by_name() -> None:
    import datasets

    whole = make_dataset(image=Image, text=list(CAPTIONS.values()))
    datasets.DatasetDict(train=whole, test=whole.select([2, 0])).save_to_disk("saved")
    assert len(build("saved")) == 3
    assert captions(build("saved", split="test")) == [CAPTIONS["c"], CAPTIONS["a"]]
    assert said("saved", split="tset") == "data.split: saved has no split 'tset'. Did you mean test?"


def test_the_columns_of_the_known_data_sets_are_found() -> None:
    make_dataset(image=Image, text=list(CAPTIONS.values())).save_to_disk("pokemon")
    assert captions(build("pokemon")) == list(CAPTIONS.values())
    texts = list(CAPTIONS.values())
    make_dataset(rawscan=Image, **{"1600px": Image}, info_alt=texts, image_caption=texts).save_to_disk("books")
    assert "several columns that could hold the pictures: rawscan, 1600px" in said("books")
    both = "several columns that could hold the captions: info_alt, image_caption"
    assert both in said("books", image_column="1600px")
    source = build("books", image_column="1600px", caption_column="info_alt")
    assert captions(source) == list(CAPTIONS.values())


def test_a_column_of_the_wrong_kind_is_refused(saved: Path) -> None:
    assert said(saved, image_column="text") == (
        "data.image_column: the column 'text' of saved does not hold pictures. These could: image."
    )
    assert "the column 'number' of saved does not hold captions" in said(saved, caption_column="number")
    misspelt = said(saved, image_column="imgae")
    assert "no column 'imgae'. Did you mean image? Its columns: image, text, number." in misspelt


def test_a_data_set_without_pictures_says_which_columns_it_has() -> None:
    make_dataset(url=["x"], text=["y"]).save_to_disk("saved")
    assert said("saved") == "saved has no column of pictures. Its columns: url, text."


def test_captions_of_a_saved_data_set_are_checked() -> None:
    make_dataset(image=Image, text=["x", "", "z"]).save_to_disk("saved")
    assert "1 of 3 pictures have no caption or an empty one: saved[1]" in said("saved")


def test_a_data_set_without_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = make_dataset(image=Image, text=list(CAPTIONS.values())).select([])
    empty.save_to_disk("saved")
    assert said("saved").startswith("saved is not a readable saved data set")
    monkeypatch.setattr("datasets.load_dataset", lambda *_args, **_options: empty)
    assert said("owner/empty") == "owner/empty has no pictures."


def test_a_damaged_saved_data_set_is_refused(saved: Path) -> None:
    (saved / "state.json").write_text("{", "utf-8")
    assert said(saved).startswith("saved is not a readable saved data set")


def test_parquet_files_with_pictures_in_them_are_read() -> None:
    Path("cloned/data").mkdir(parents=True)
    whole = make_dataset(image=Image, text=list(CAPTIONS.values()))
    whole.to_parquet("cloned/data/train-00000-of-00001.parquet")
    whole.select([0, 1]).to_parquet("cloned/data/test-00000-of-00001.parquet")
    assert colours(build("cloned")) == RGB
    assert len(build("cloned", split="test")) == 2
    assert "Unknown split" in said("cloned", split="dev")
    Path("cloned/data/train-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert said("cloned").startswith("data: 'cloned' could not be loaded: ")


def test_pictures_that_a_data_set_names_by_path_are_read_from_there(bare: Path) -> None:
    import datasets

    features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
    table = {"image": [str(bare / "a.png"), None], "text": ["x", "y"]}
    dataset = datasets.Dataset.from_dict(table, features=features)
    found = arrow.rows(dataset, None, None, "named")
    assert found[0].image.read() == (bare / "a.png").read_bytes()
    with pytest.raises(DataError, match=r"named\[1\]: the row holds no picture"):
        found[1].image.read()


# The hub


def test_a_data_set_of_the_hub_is_loaded_with_its_split_subset_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def load_dataset(path: str, **options: Any) -> Any:
        asked.update(options, path=path)
        return make_dataset(image=Image, text=list(CAPTIONS.values()))

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    source = build("owner/pictures", split="test", subset="large", revision="v2")
    assert asked == {"path": "owner/pictures", "name": "large", "split": "test", "revision": "v2"}
    assert source[0].name == "owner/pictures[0]"


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("lambdalabs/pokemon-blip-captions", {"image": Image, "text": 0}),
        ("zoheb/sketch-scene", {"image": Image, "text": 0}),
        ("gigant/oldbookillustrations", {"rawscan": Image, "1600px": Image, "info_alt": 0, "image_caption": 1}),
    ],
)
def test_the_data_sets_of_the_recipes_need_no_columns(
    monkeypatch: pytest.MonkeyPatch, path: str, columns: dict[str, Any]
) -> None:
    texts = [list(CAPTIONS.values()), ["not this"] * len(CAPTIONS)]
    held = {name: kind if kind is Image else texts[kind] for name, kind in columns.items()}
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: make_dataset(**held))
    source = build(path)
    assert captions(source) == list(CAPTIONS.values())
    assert source[0].image.read()


def test_without_a_network_the_data_set_of_the_hub_is_named_with_what_to_do() -> None:
    message = said("lambdalabs/pokemon-blip-captions")
    assert message.startswith(
        "data: 'lambdalabs/pokemon-blip-captions' is neither a folder here nor in the hub's cache, "
        "and fetching it failed: Couldn't reach"
    )
    assert message.endswith(
        "Check the spelling and the network, set HF_TOKEN for a gated data set, or use an embedded one."
    )


def test_a_misspelt_folder_that_looks_like_a_hub_id_is_answered_with_the_folder() -> None:
    paint(Path("data/photos/a.png"))
    assert "Did you mean data/photos?" in said("data/phtoos")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("DatasetNotFoundError", "there is no data set 'owner/pictures' on the hub, or it needs a login: oh"),
        ("DatasetGenerationError", "'owner/pictures' could not be loaded: oh"),
        (ValueError, "'owner/pictures' could not be loaded: oh"),
        (RuntimeError, "'owner/pictures' could not be loaded: oh"),
        (ConnectionError, "and fetching it failed: oh"),
    ],
)
def test_what_the_hub_answers_becomes_a_data_error(
    monkeypatch: pytest.MonkeyPatch, error: str | type[Exception], message: str
) -> None:
    import datasets.exceptions

    kind = getattr(datasets.exceptions, error) if isinstance(error, str) else error

    def load_dataset(*_args: Any, **_options: Any) -> Any:
        raise kind(*["oh\ndear"])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert message in said("owner/pictures")


# Embedded data sets, and paths that lead nowhere


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two embedded data sets."""
    monkeypatch.setattr(captioned, "DATASETS", Path("package").absolute())
    for name in ("engravings", "mascot"):
        paint(Path("package", name, "x.png")).with_suffix(".txt").write_text(f"in {name}", "utf-8")
    return Path("package").absolute()


def test_an_embedded_data_set_is_found_by_its_name_unless_a_folder_here_has_it(package: Path) -> None:
    assert captions(build("engravings")) == ["in engravings"]
    assert build("engravings")[0].name == "engravings/x.png"
    (package / "mascot").rename("engravings")
    assert captions(build("engravings")) == ["in mascot"]


@pytest.mark.usefixtures("package")
def test_a_misspelt_name_is_answered_with_the_nearest_folder_or_embedded_data_set(photos: Path) -> None:
    assert said("engravngs") == "data: there is no folder 'engravngs'. Did you mean engravings?"
    assert said("phots") == f"data: there is no folder 'phots'. Did you mean {photos}?"
    assert said("./zzz").endswith("Embedded data sets: engravings, mascot.")
    assert said("no/such/place").endswith("Embedded data sets: engravings, mascot.")


def test_a_file_is_no_data_set(photos: Path) -> None:
    assert said(photos / "a.png") == "data: 'photos/a.png' is a file. Give the folder that the pictures are in."


# Broken files


def cut(path: Path) -> None:
    """Leave the header of a picture and a little more."""
    path.write_bytes(path.read_bytes()[:45])


def test_verify_counts_broken_pictures_and_names_the_first_with_reasons(photos: Path) -> None:
    cut(photos / "a.png")
    (photos / "c.png").write_text("<html>", "utf-8")
    source = build(photos)
    with pytest.raises(DataError) as caught:
        source.verify()
    first, second, third = str(caught.value).split("\n")
    assert first == "2 of 3 pictures cannot be used:"
    assert "photos/a.png: the picture is damaged" in second
    assert "photos/c.png: this is not a picture" in second
    assert third.startswith("Repair them")


def test_verify_passes_over_good_pictures_and_shows_how_far_it_is(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(photos).verify()
    assert capsys.readouterr().err == "checking pictures: 3\nchecking pictures: 3/3\n"


def test_verify_reads_only_headers_of_very_large_sets(
    photos: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.silence()
    cut(photos / "a.png")
    monkeypatch.setattr(captioned, "DECODED_AT_MOST", 2)
    build(photos).verify()
    build(saved).verify()
    (photos / "a.png").write_text("<html>", "utf-8")
    with pytest.raises(DataError, match=r"1 of 3 pictures cannot be used:\nphotos/a\.png: this is not a picture"):
        build(photos).verify()


def test_folders_named_like_pictures_loops_and_broken_links_end_in_no_traceback(photos: Path) -> None:
    (photos / "folder.png").mkdir()
    (photos / "loop").symlink_to(photos.absolute(), target_is_directory=True)
    (photos / "self.d").symlink_to("self.d")
    assert len(build(photos)) == 3
    (photos / "gone.png").symlink_to("nowhere.png")
    (photos / "gone.txt").write_text("gone", "utf-8")
    (photos / "self.png").symlink_to("self.png")
    (photos / "self.txt").write_text("self", "utf-8")
    with pytest.raises(DataError, match="2 of 5 pictures cannot be used") as caught:
        build(photos).verify()
    assert "photos/gone.png: the file cannot be read (No such file or directory)" in str(caught.value)


def test_a_linked_folder_is_read(photos: Path) -> None:
    Path("elsewhere").mkdir()
    (Path("elsewhere") / "linked").symlink_to(photos.absolute(), target_is_directory=True)
    assert captions(build("elsewhere")) == list(CAPTIONS.values())


def test_a_folder_that_may_not_be_listed_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert said(photos) == "photos: the folder cannot be listed (Permission denied)"


def test_a_file_that_vanished_is_named(photos: Path) -> None:
    sample = build(photos)[0]
    (photos / "a.png").unlink()
    with pytest.raises(DataError, match=r"photos/a\.png: the file cannot be read"):
        sample.image.read()


def several(bare: Path, cell: object, kind: str) -> Path:
    """Write one table in which the first picture has the cell for its captions."""
    rows = [{"file_name": f"{name}.png", "text": [CAPTIONS[name]]} for name in COLOURS]
    rows[0]["text"] = cell  # type: ignore[assignment]
    if kind == "jsonl":
        (bare / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
        return bare
    from datasets import Dataset, Features, Image, List, Value

    features = Features({"image": Image(), "text": List(Value("string"))})
    table = [{"image": str(bare / row["file_name"]), "text": row["text"]} for row in rows]  # type: ignore[operator]
    Dataset.from_list(table, features=features).save_to_disk("saved")
    return Path("saved")


@pytest.mark.parametrize("kind", ["jsonl", "saved"])
def test_a_picture_can_have_several_captions(bare: Path, kind: str) -> None:
    source = build(several(bare, ["a red square", "  a   scarlet box "], kind))
    assert captions(source) == list(CAPTIONS.values())
    assert [source[index].captions for index in range(3)] == [
        ("a red square", "a scarlet box"),
        ("a green square",),
        ("a blue square",),
    ]


def test_what_is_wrong_with_one_of_several_captions_is_said(bare: Path) -> None:
    assert "metadata.jsonl:1: caption 2 of 2 is empty" in said(several(bare, ["a red square", " "], "jsonl"))
    assert "metadata.jsonl:1: the caption is 7, not text" in said(several(bare, ["a red square", 7], "jsonl"))
    assert "1 of 3 pictures have no caption" in said(several(bare, [], "jsonl"))
