"""A report crashes on nothing, accounts for every file, and says of each data set what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import make, photograph
from PIL import Image, ImageDraw, ImageOps

from brushwork import readers
from brushwork.cli import cli
from brushwork.curate import findings, looks, page, report
from brushwork.errors import DataError
from brushwork.sources import captioned


def examined(path: Path | str, **options: Any) -> report.Examined:
    return report.examine(captioned.Config(path=str(path)), **options)


def kinds(told: report.Examined) -> dict[str, str]:
    return {finding.kind: finding.level for finding in told.findings}


def names(told: report.Examined, kind: str) -> list[str]:
    return [name for finding in told.findings if finding.kind == kind for name in finding.names]


def photos(folder: Path, count: int, start: int = 0, **caption: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        photograph(number, (640, 512)).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(caption.get("text", f"a picture with number {number}"), "utf-8")
    return folder


def test_a_hostile_folder_is_told_file_by_file(tmp_path: Path) -> None:
    said = make(tmp_path / "photos")
    told = examined(tmp_path / "photos", resolution=64)
    looked = {look.name.removeprefix("photos/"): look for look in told.looks}
    assert set(looked) == set(said)
    for name, error in said.items():
        assert (error.lower() in looked[name].error.lower()) if error else not looked[name].error, looked[name]
    assert told.summary["files"] == {
        "pictures": len(said),
        "captions": len(said),
        "captions of no picture": 1,
        "pictures in a format that is not read": 1,
        "other": 1,
        "hidden": 1,
    }
    broken = sum(bool(error) for error in said.values())
    assert len(names(told, "broken")) == broken == told.summary["pictures"] - told.summary["readable"]
    remarks = {kind: names(told, kind) for kind in ("suffix", "turned", "animated", "transparent", "CMYK", "16 bits")}
    assert {kind: [name.removeprefix("photos/") for name in each] for kind, each in remarks.items()} == {
        "suffix": ["png-in-truth.jpg"],
        "turned": ["turned.jpg"],
        "animated": ["moving.gif"],
        "transparent": ["cut-out.png"],
        "CMYK": ["printed.jpg"],
        "16 bits": ["deep.png"],
    }
    assert (looked["turned.jpg"].width, looked["turned.jpg"].height) == (72, 96)
    assert names(told, "blank") == ["photos/blank.png"]
    assert kinds(told)["broken"] == told.summary["level"] == "error"
    text = page.render(told)
    assert text.count("cannot be read") >= 1
    json.dumps(told.summary)


def test_what_cannot_be_opened_or_listed_is_told_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(tmp_path / "photos", 2)
    (folder / "locked").mkdir()
    opened, listed = Path.read_bytes, os.scandir

    def read_bytes(path: Path) -> bytes:
        if path.name == "001.png":
            raise PermissionError(13, "Permission denied")
        return opened(path)

    def scandir(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(readers.Path, "read_bytes", read_bytes)
    monkeypatch.setattr(os, "scandir", scandir)
    told = examined(folder)
    assert names(told, "broken") == ["photos/001.png: the file cannot be read (Permission denied)"]
    assert kinds(told)["unreadable folder"] == "error"
    assert told.summary["files"]["folders that cannot be listed"] == 1


@pytest.mark.slow
def test_thousands_of_files_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photograph(0, (16, 12)).save(folder / "00000.png")
    data = (folder / "00000.png").read_bytes()
    for number in range(1, 2_000):
        (folder / f"{number:05}.png").write_bytes(data if number % 100 else b"")
    told = examined(folder, resolution=64)
    assert told.summary["files"] == {"pictures": 2_000}
    assert told.summary["readable"] == 2_000 - 19
    assert len(told.repeats.exact) == 2_000 - 19 - 1
    assert kinds(told)["uncaptioned"] == kinds(told)["exact duplicate"] == "error"


def test_of_good_pictures_nothing_is_said(tmp_path: Path) -> None:
    told = examined(photos(tmp_path / "photos", 4))
    assert told.findings == []
    assert told.summary["level"] is None
    assert "Nothing was found" in page.render(told)


def test_captions_that_are_missing_repeated_or_lack_the_word_are_found(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 4)
    (folder / "000.txt").unlink()
    (folder / "001.txt").write_text("a sks dog " * 30, "utf-8")
    (folder / "003.txt").write_text("a picture with number 2", "utf-8")
    told = examined(folder, token="sks")  # noqa: S106  (no password)
    assert names(told, "uncaptioned") == ["photos/000.png"]
    assert names(told, "long caption") == ["photos/001.png"]
    assert names(told, "repeated caption") == names(told, "token") == ["photos/002.png", "photos/003.png"]
    assert kinds(told)["token"] == "error"  # noqa: S105  (no password)
    assert kinds(examined(photos(tmp_path / "same", 3, text="one")))["same caption"] == "error"


def test_what_a_tokenizer_cuts_is_quoted(tmp_path: Path) -> None:
    told = examined(photos(tmp_path / "photos", 1), unread=lambda text: text[-8:])
    assert names(told, "long caption") == ["photos/000.png: ...number 0"]


def test_a_caption_that_is_not_utf8_or_is_there_twice_is_a_finding_and_no_end(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 3)
    (folder / "000.txt").write_bytes("café".encode("latin-1"))
    told = examined(folder)
    assert "not UTF-8" in next(finding.message for finding in told.findings if finding.kind == "captions")
    assert names(told, "uncaptioned") == ["photos/000.png"]
    assert len(told.looks) == 3


def test_copies_are_found_by_bytes_and_by_looks_and_the_largest_is_the_one_to_keep(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 3)
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    ImageOps.mirror(photograph(1, (640, 512))).resize((900, 720)).save(folder / "mirrored.jpg")
    (folder / "mirrored.txt").write_text("another", "utf-8")
    told = examined(folder)
    assert told.summary["duplicates"] == {
        "exact": [["photos/copy.png", "photos/000.png"]],
        "near": [["photos/001.png", "photos/mirrored.jpg"]],
    }
    assert page.render(told).count('class="pair"') == 2


def test_validation_pictures_among_the_training_pictures_are_found(tmp_path: Path) -> None:
    train, held_out = photos(tmp_path / "train", 5), photos(tmp_path / "validation", 2, start=4)
    photograph(2, (200, 160)).save(held_out / "small.png")
    told = examined(train, against=captioned.Config(path=str(held_out)))
    assert told.summary["leaks"] == [["validation/004.png", "train/004.png"], ["validation/small.png", "train/002.png"]]
    assert [finding.level for finding in told.findings if finding.kind == "leak"] == ["error", "warning"]


def test_what_concerns_most_of_a_data_set_is_an_error(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 12)
    for number in range(12):
        photograph(number, (64, 50)).save(folder / f"small-{number}.png")
    levels = kinds(examined(folder))
    assert levels["near duplicate"] == levels["small"] == "error"


def test_scanned_pages_and_empty_ones_are_found_and_drawings_are_not() -> None:
    paper = Image.new("RGB", (800, 1000), "white")
    assert looks.emptiness(paper) == "blank"
    pen = ImageDraw.Draw(paper)
    for line in range(40):
        pen.text(
            (80, 60 + 22 * line),
            f"{line} the quick brown fox jumps over the lazy dog and over it",
            "black",
            font_size=18,
        )
    assert looks.emptiness(paper) == looks.emptiness(paper.resize((300, 400))) == "text"
    speck = Image.new("RGB", (800, 1000), "white")
    ImageDraw.Draw(speck).ellipse((400, 400, 460, 460), "black")
    assert looks.emptiness(speck) == "white"
    for name in ("engravings", "sketches", "mascot"):
        rows = captioned.find_rows(captioned.Config(path=name))
        assert {look.emptiness for look in looks.over(rows)} == {""}


def test_buckets_and_what_cropping_loses_are_counted(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 2)
    photograph(7, (1536, 512)).save(folder / "wide.png")
    photograph(8, (40, 50)).save(folder / "tiny.png")
    told = examined(folder)
    assert names(told, "cropped") == ["photos/wide.png"]
    assert names(told, "small") == ["photos/tiny.png"]
    table = {tuple(each["size"] or ()): each["count"] for each in told.summary["buckets"]}
    assert table == {(576, 448): 2, (832, 256): 1, (): 1}
    assert "cropped" not in kinds(examined(folder, bucketed=True))


def test_licences_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for number, licence in enumerate(("CC0", "CC0", "CC-BY")):
        photograph(number).save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": f"a {number}", "license": licence})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (folder / "LICENSE").write_text("free", "utf-8")
    assert examined(folder).summary["licences"] == {"the file LICENSE": 1, "CC0": 2, "CC-BY": 1}


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures"):
        examined(tmp_path)


def test_the_command_writes_a_page_and_json(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 2)
    out = tmp_path / "page.html"
    done = CliRunner().invoke(cli, ["data", "report", str(folder), "--out", str(out), "--json"])
    told = json.loads(done.stdout)
    assert (told["report"], told["pictures"], told["findings"]) == (str(out), 2, [])
    assert "<h1>photos</h1>" in out.read_text("utf-8")


def test_the_gravest_level_is_the_worst() -> None:
    found = [findings.Finding(level, "x", "x", 1, 1) for level in ("note", "error", "warning")]
    assert (findings.worst(found), findings.worst([])) == ("error", None)
