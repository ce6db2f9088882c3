"""Captions that a model writes go where captions are; nothing that was there is lost, and a kill costs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hostile import photograph

from brushwork import captioners
from brushwork.cli import cli
from brushwork.curate import captioning
from brushwork.errors import UserError
from brushwork.sources import captioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image


class Counter:
    """A captioner that says the size of a picture, counts what it is asked, and may be killed on the way."""

    revision, preprocessing = "1", "none"

    def __init__(self, dies_after: int = 1000) -> None:
        self.asked, self.dies_after = 0, dies_after

    def describe(self, pictures: Sequence[Image]) -> list[str]:
        if self.asked + len(pictures) > self.dies_after:
            raise KeyboardInterrupt
        self.asked += len(pictures)
        return [f"{picture.width} wide" for picture in pictures]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures, the first with a caption."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        photograph(number, (50 + number, 40)).save(folder / f"{number}.png")
    (folder / "0.txt").write_text("mine", "utf-8")
    return folder


def write(folder: Path, captioner: Any = None, out: Path | None = None, **wish: Any) -> dict[str, Any]:
    captioner = captioner or Counter()
    return captioning.caption(str(folder), captioner, captioning.Wish(**wish), out=out, batch=2)


def captions(folder: Path) -> list[tuple[str, ...]]:
    source = captioned.Config(path=str(folder), allow_bad_captions=True).build()
    return [source[index].captions for index in range(len(source))]


def flat(folder: Path) -> list[str]:
    return [each[0] for each in captions(folder)]


SAID = ["50 wide", "51 wide", "52 wide", "53 wide", "54 wide"]


def test_missing_captions_are_written_and_others_are_kept(photos: Path) -> None:
    asked = Counter()
    assert write(photos, asked) == {"captioned": 4, "kept": 1, "broken": []}
    assert (flat(photos), asked.asked) == (["mine", *SAID[1:]], 4)
    assert write(photos, asked)["captioned"] == 0
    assert asked.asked == 4
    assert [path.name for path in photos.iterdir() if path.name.startswith(".") or "bak" in path.name] == []


def test_what_is_replaced_is_kept_as_a_backup_and_no_backup_is_overwritten(photos: Path) -> None:
    write(photos, mode="replace")
    assert flat(photos) == SAID
    assert (photos / "0.txt.bak").read_text() == "mine"
    write(photos, mode="replace", suffix=", twice")
    assert (photos / "0.txt.bak").read_text() == "mine"
    assert (photos / "0.txt.bak2").read_text() == "50 wide\n"


def test_a_second_caption_needs_a_table_or_a_new_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text files, which hold one each"):
        write(photos, mode="add")
    write(photos, out=tmp_path / "out", mode="add")
    assert captions(tmp_path / "out") == [("mine", SAID[0]), *((said,) for said in SAID[1:])]
    assert flat(photos) == ["mine", "", "", "", ""]


@pytest.mark.parametrize("mode", ["missing", "replace", "add"])
def test_captions_in_a_table_are_written_there(photos: Path, mode: str) -> None:
    rows = [{"file_name": f"{number}.png", "text": "mine" if number == 0 else None, "n": number} for number in range(5)]
    (photos / "0.txt").unlink()
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    write(photos, mode=mode)
    first: dict[str, Any] = {"missing": "mine", "replace": SAID[0], "add": ["mine", SAID[0]]}
    new = [json.loads(line) for line in (photos / "metadata.jsonl").read_text().splitlines()]
    assert [row["text"] for row in new] == [first[mode], *SAID[1:]]
    assert [row["n"] for row in new] == list(range(5))
    assert [json.loads(line) for line in (photos / "metadata.jsonl.bak").read_text().splitlines()] == rows


def test_a_run_that_is_killed_goes_on_and_asks_nothing_twice(photos: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(photos, Counter(dies_after=2))
    assert flat(photos) == ["mine", "", "", "", ""], "captions appear in the end only"
    with (photos / ".captions.journal").open("a") as file:
        file.write('["half a li')
    asked = Counter()
    write(photos, asked)
    assert (asked.asked, flat(photos)) == (2, ["mine", *SAID[1:]])
    assert not (photos / ".captions.journal").exists()


def test_what_another_model_said_is_not_taken_over(photos: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(photos, Counter(dies_after=2))
    asked = Counter()
    asked.revision = "2"
    write(photos, asked)
    assert asked.asked == 4


def test_prefix_suffix_and_trigger_dress_what_the_model_says() -> None:
    wish = captioning.Wish(prefix="a photo of ", suffix=", old", trigger="sks")
    assert wish.dress("a dog") == "sks, a photo of a dog, old"
    assert wish.dress("a SKS dog") == "a photo of a SKS dog, old"


def test_a_picture_that_cannot_be_read_is_told_and_the_others_are_captioned(photos: Path, tmp_path: Path) -> None:
    (photos / "3.png").write_bytes(b"")
    told = write(photos, out=tmp_path / "out")
    assert told["captioned"] == 3
    assert [Path(name.partition(":")[0]).name for name in told["broken"]] == ["3.png"]
    assert len(captions(tmp_path / "out")) == 4


def test_what_is_no_folder_of_pictures_needs_a_new_folder() -> None:
    with pytest.raises(UserError, match="Write a new one: --out"):
        write(Path("engravings"))


def test_the_command_with_the_embedded_captioner(tmp_path: Path) -> None:
    arguments = ["data", "caption", "mascot", "--model", "mini-captioner", "--existing", "replace", "--trigger", "sks"]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out"), "--to", "txt", "--json"])
    told = json.loads(done.stdout)
    assert (told["captioned"], told["broken"]) == (5, [])
    embedded = captioned.Config(path="mascot", allow_bad_captions=True).build()
    from PIL import Image

    pictures = [Image.open(embedded[index].image.path) for index in range(5)]  # type: ignore[attr-defined]
    said = captioners.load_captioner("mini-captioner").describe(pictures)
    assert flat(tmp_path / "out") == [f"sks, {text}" for text in said]
