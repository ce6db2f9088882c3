"""Data sets go from any layout to any other, are split and deduplicated, and their originals stay as they are."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from click.testing import CliRunner
from hostile import make, photograph
from PIL import Image, ImageOps
from webdataset import tariterators

from brushwork.cli import cli
from brushwork.curate import layouts, looks, sorting
from brushwork.errors import ConfigError, UserError
from brushwork.readers import shards
from brushwork.sources import captioned

CAPTIONS = ("a red thing", 'a "quoted", thing', "ein Ding, größer")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of three formats, one in a folder below, with captions."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number, (name, text) in enumerate(zip(("a.jpg", "b.png", "below/c.webp"), CAPTIONS, strict=True)):
        photograph(number).save(folder / name)
        (folder / name).with_suffix(".txt").write_text(text, "utf-8")
    return folder


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(cli, ["data", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def content(path: Path | str, **options: Any) -> list[tuple[str, tuple[str, ...]]]:
    source = captioned.Config(path=str(path), **options).build()
    every = (source[index] for index in range(len(source)))
    return sorted((hashlib.sha256(sample.image.read()).hexdigest(), sample.captions) for sample in every)


def fingerprint(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_every_layout_holds_the_same_bytes_and_captions_and_becomes_any_other(
    photos: Path, tmp_path: Path, layout: str
) -> None:
    before = fingerprint(photos)
    assert run("convert", photos, "--to", layout, "--out", tmp_path / "out")["pictures"] == 3
    assert content(tmp_path / "out") == content(photos)
    run("convert", tmp_path / "out", "--to", "txt", "--out", tmp_path / "back")
    assert content(tmp_path / "back") == content(photos)
    assert fingerprint(photos) == before


def test_folders_below_keep_their_names_and_equal_stems_are_told_apart(photos: Path, tmp_path: Path) -> None:
    photograph(9).save(photos / "a.png")
    run("convert", photos, "--to", "txt", "--out", tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert names == {"a.jpg", "a.txt", "a-2.png", "a-2.txt", "b.png", "b.txt", "below/c.webp", "below/c.txt"}


def test_a_suffix_that_lies_is_put_right(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photograph(0).save(tmp_path / "photos" / "a.jpg", format="PNG")
    run("convert", tmp_path / "photos", "--to", "txt", "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize("layout", ["jsonl", "parquet", "webdataset", "hf"])
def test_several_captions_of_a_picture_stay_several(photos: Path, tmp_path: Path, layout: str) -> None:
    rows = [{"file_name": "a.jpg", "text": ["one", "two"]}, {"file_name": "b.png", "text": "three"}]
    for path in photos.rglob("*.txt"):
        path.unlink()
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    run("convert", photos, "--to", layout, "--out", tmp_path / "out")
    assert content(tmp_path / "out") == content(photos)
    with pytest.raises(ConfigError, match="has 2 captions, and txt holds one"):
        run("convert", photos, "--to", "txt", "--out", tmp_path / "texts")
    assert not (tmp_path / "texts").exists()


def test_shards_are_read_by_webdataset_and_its_own_are_read_here(photos: Path, tmp_path: Path) -> None:
    run("convert", photos, "--to", "webdataset", "--out", tmp_path / "out", "--shard", 2)
    theirs = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with path.open("rb") as file:  # webdataset itself leaves files open
            members = tariterators.tar_file_expander([{"url": str(path), "stream": file}])
            theirs += [sample["txt"].decode() for sample in tariterators.group_by_keys(members)]
    assert sorted(theirs) == sorted(CAPTIONS)
    (tmp_path / "theirs").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "theirs" / "%06d.tar"), maxcount=2, verbose=0) as writer:
        for number in range(5):
            image = (photos / "a.jpg").read_bytes()
            extra = {"json": {"caption": f"number {number}", "url": "x"}} if number % 2 else {"txt": f"number {number}"}
            writer.write({"__key__": f"{number:04}", "jpg": image, **extra})
    for path in (tmp_path / "theirs", f"{tmp_path}/theirs/{{000000..000002}}.tar", f"{tmp_path}/theirs/*.tar"):
        read = captioned.Config(path=str(path)).build()
        assert [read[index].caption for index in range(len(read))] == [f"number {number}" for number in range(5)]
    assert read[4].image.read() == (photos / "a.jpg").read_bytes()


def test_what_is_wrong_with_shards_is_said(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    (tmp_path / "no.tar").write_bytes(b"this is no tar file at all" * 100)
    (tmp_path / "cut.tar").write_bytes((tmp_path / "empty.tar").read_bytes()[:100])
    for path, said in (
        ("empty.tar", "no pictures"),
        ("no.tar", "not a readable tar"),
        ("cut.tar", "tar file"),
        ("gone-{0..2}.tar", "3 of 3 shards"),
        ("many-*.tar", "no file matches"),
        ("packed.tar.gz", "compressed"),
    ):
        with pytest.raises(UserError, match=said):
            captioned.Config(path=f"{tmp_path}/{path}").build()
    with pytest.raises(UserError, match="is an address"):
        shards.expand("https://somewhere/{00..10}.tar")
    with pytest.raises(UserError, match=r"is tar shards, so data\.masks cannot apply"):
        captioned.Config(path=f"{tmp_path}/empty.tar", masks=True).build()


def test_a_split_keeps_what_looks_alike_on_one_side_and_is_decided_by_the_seed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        image = photograph(number)
        image.save(folder / f"{number:02}.png")
        ImageOps.mirror(image).resize((200, 150)).save(folder / f"{number:02}-copy.jpg")
    (folder / "broken.png").write_bytes(b"")
    told = run("split", folder, "--out", tmp_path / "out", "--validation", 0.25, "--seed", 3)
    assert (told["train"], told["validation"], len(told["broken"])) == (30, 10, 1)
    sides = [
        {path.stem[:2] for path in (tmp_path / "out" / side).glob("*.*") if path.stem[:2].isdigit()}
        for side in ("train", "validation")
    ]
    assert sides[0] | sides[1] == {f"{number:02}" for number in range(20)}
    assert not sides[0] & sides[1]
    again = run("split", folder, "--out", tmp_path / "again", "--validation", 0.25, "--seed", 3)
    other = run("split", folder, "--out", tmp_path / "other", "--validation", 0.25, "--seed", 4)
    assert again["validation"] == other["validation"] == 10
    tables = [(tmp_path / name / "validation" / "metadata.jsonl").read_text() for name in ("out", "again", "other")]
    assert tables[0] == tables[1] != tables[2]


def test_a_picture_added_later_moves_no_other(tmp_path: Path) -> None:
    seen = [looks.at(_png(photograph(number), tmp_path), f"{number}") for number in range(40)]
    before = {seen[place].name for place in sorting.split(seen[:-1], 0.3, 0)[1]}
    after = {seen[place].name for place in sorting.split(seen, 0.3, 0)[1]}
    assert len(before ^ after) <= 2


def _png(image: Image.Image, folder: Path) -> bytes:
    image.save(folder / "one.png")
    return (folder / "one.png").read_bytes()


def test_deduplication_keeps_the_largest_and_writes_down_why_others_went(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photograph(1).save(folder / "small.png")
    photograph(1, (640, 480)).save(folder / "large.png")
    (folder / "large-again.png").write_bytes((folder / "large.png").read_bytes())
    ImageOps.mirror(photograph(1)).save(folder / "mirrored.png")
    photograph(2).save(folder / "other.png")
    (folder / "void.png").write_bytes(b"")
    before = fingerprint(folder)
    told = run("dedupe", folder, "--out", tmp_path / "out")
    assert told["kept"] == 2
    reasons = {Path(each["name"]).name: (each["reason"].split(" (")[0], each["repeats"]) for each in told["removed"]}
    kept = str(folder / "large-again.png")
    assert reasons == {
        "large.png": ("the same bytes", kept),
        "mirrored.png": ("looks alike", kept),
        "small.png": ("looks alike", kept),
        "void.png": ("broken: the file is empty", None),
    }
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"large-again.png", "other.png"}
    assert len((tmp_path / "out" / "removed.jsonl").read_text().splitlines()) == 4
    (folder / "small.txt").write_text("the only one with a caption", "utf-8")
    run("dedupe", folder, "--out", tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").glob("*.png")} == {"small.png", "other.png"}
    (folder / "small.txt").unlink()
    assert run("dedupe", folder, "--out", tmp_path / "b", "--not-mirrored")["kept"] == 3
    assert run("dedupe", folder, "--out", tmp_path / "c", "--exact")["kept"] == 4
    assert fingerprint(folder) == before


def test_a_hostile_folder_can_be_split_and_deduplicated(tmp_path: Path) -> None:
    said = make(tmp_path / "photos")
    told = run("dedupe", tmp_path / "photos", "--out", tmp_path / "out")
    assert told["kept"] + len(told["removed"]) == len(said)
    assert len(content(tmp_path / "out", allow_bad_captions=True)) == told["kept"]
    halves = run("split", tmp_path / "photos", "--out", tmp_path / "halves", "--validation", 0.4)
    assert halves["train"] + halves["validation"] + len(halves["broken"]) == len(said)


def test_a_folder_that_is_taken_and_a_share_that_cannot_be_are_refused(photos: Path) -> None:
    with pytest.raises(UserError, match="not empty"):
        run("convert", photos, "--to", "txt", "--out", photos)
    with pytest.raises(UserError, match="cannot be held out"):
        run("split", photos, "--out", photos.with_name("halves"), "--validation", 0.01)
    assert not photos.with_name("halves").exists()
