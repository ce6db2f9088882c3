"""A ballot hides whose picture is whose, and notices every change."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import pytest
from ballots import ITEMS, make_ballot, picture_folders
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from brushwork.errors import ConfigError, UserError
from brushwork.voting import ballot, page
from brushwork.voting.ballot import Ballot, Settings
from brushwork.voting.gathering import of_folders

if TYPE_CHECKING:
    from pathlib import Path


def test_neither_the_ballot_nor_a_name_nor_a_file_tells_whose_a_picture_is(tmp_path: Path) -> None:
    folders = picture_folders(tmp_path / "pictures")
    for path in folders[1].glob("*.png"):
        chunks = PngInfo()
        chunks.add_text("parameters", "a cat\nSteps: 1, Sampler: Euler a, Seed: 0, Model: tuned")
        Image.open(path).save(path, pnginfo=chunks)
        path.with_suffix(".txt").unlink()
        path.with_name(path.name).touch()
    for path in folders[0].glob("*.txt"):
        path.write_text("a cat", "utf-8")
    items, cells = of_folders(folders, need_prompts=True)
    folder = ballot.make(items, cells, Settings(), tmp_path / "ballot")
    assert not re.search("base|tuned", folder.ballot.text)
    for name in folder.ballot.pictures:
        data = (folder.pictures / f"{name}.png").read_bytes()
        assert b"tuned" not in data
        assert hashlib.sha256(data).hexdigest()[: ballot.DIGITS] == name
    sides = [owners[0] for owners in folder.key.pairs]
    assert 0 < sum(sides) < len(sides), "the first of two names is now one model's, now the other's"
    bundle = page.render(folder.ballot, "bundle")
    assert not re.search(r"\bbase\b|\btuned\b|key\.json", bundle)


def test_each_model_stands_left_in_half_of_the_pairs(tmp_path: Path) -> None:
    folder = make_ballot(tmp_path)
    for sheet in folder.ballot.sheets:
        lefts = [folder.key.pairs[trial.pair][trial.left] for trial in sheet if not trial.repeat]
        assert sorted(lefts) == [0, 0, 0, 1, 1, 1]


def test_a_ballot_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = make_ballot(tmp_path, models=3, about="</script>", questions=("style", "overall"))
    again = ballot.read(folder.path)
    assert (again.ballot, again.key.items, again.key.pairs) == (folder.ballot, ITEMS[:3], folder.key.pairs)
    assert Ballot.parse(folder.ballot.text) == folder.ballot
    assert "</script>" not in folder.ballot.text
    assert again.ballot.questions["style"] == "Which picture has more of </script>?"


@pytest.mark.parametrize("what", ["ballot", "picture", "missing"])
def test_a_ballot_that_was_changed_is_refused(tmp_path: Path, what: str) -> None:
    folder = make_ballot(tmp_path)
    picture = next(folder.pictures.iterdir())
    if what == "ballot":
        path = folder.path / ballot.BALLOT
        path.write_text(path.read_text("utf-8").replace("a cat", "a bat"), "utf-8")
    elif what == "picture":
        Image.new("RGB", (24, 24)).save(picture)
    else:
        picture.unlink()
    with pytest.raises(UserError, match=r"was changed|were changed"):
        ballot.read(folder.path)


def test_equal_pictures_are_counted_and_refused_when_there_is_nothing_else(tmp_path: Path) -> None:
    folders = picture_folders(tmp_path / "pictures", prompts=2)
    (folders[1] / "00000-0.png").write_bytes((folders[0] / "00000-0.png").read_bytes())
    items, cells = of_folders(folders)
    assert ballot.make(items, cells, Settings(), tmp_path / "one").key.made["equal_pictures"] == 1
    with pytest.raises(UserError, match="All pairs are of equal pictures"):
        ballot.make(items, cells[:1], Settings(), tmp_path / "other")
    assert not ballot.is_ballot(tmp_path / "other")


def test_folders_that_do_not_pair_are_refused(tmp_path: Path) -> None:
    folders = picture_folders(tmp_path, prompts=3)
    (folders[1] / "00001-1.png").rename(folders[1] / "x.png")
    with pytest.raises(UserError, match="lacks 1 of the 4 pictures: x"):
        of_folders(folders)
    (folders[1] / "x.png").rename(folders[1] / "00001-1.png")
    (folders[1] / "00002-2.txt").write_text("a tent", "utf-8")
    with pytest.raises(UserError, match="prompt is 'a tent' in one folder and 'a tree' in another"):
        of_folders(folders)
    for folder in folders:
        (folder / "00002-2.txt").unlink()
    with pytest.raises(UserError, match="its prompt is not known"):
        of_folders(folders)
    assert [cell.prompt for cell in of_folders(folders, need_prompts=False)[1]] == ["a cat", "a dog", ""]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"questions": ("stile",)}, "Did you mean style"),
        ({"questions": ()}, "at least one"),
        ({"questions": ("style", "style")}, "each once"),
        ({"questions": ("prompt",), "about": "ink"}, "not among the questions"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**settings)


def test_one_file_holds_its_pictures_and_a_folder_has_them_beside_it(tmp_path: Path) -> None:
    folder = make_ballot(tmp_path)
    text = page.write_bundle(folder, tmp_path / "vote.html").read_text("utf-8")
    found = re.search(r'id="data">(.*?)</script>', text)
    assert found
    assert set(json.loads(found[1])) == folder.ballot.pictures
    assert not re.search(r"https?://", text)
    index = page.write_bundle(folder, tmp_path / "bundle")
    assert index.name == "index.html"
    assert {path.stem for path in (tmp_path / "bundle" / "pictures").iterdir()} == folder.ballot.pictures
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == ["index.html", "pictures"]
    with pytest.raises(UserError, match="not empty"):
        page.write_bundle(folder, tmp_path / "bundle")
