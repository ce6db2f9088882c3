"""``brushwork generate`` and ``brushwork models``: files, names, seeds, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brushwork import infotext
from brushwork.cli import run
from brushwork.sources.captioned import Config as Captioned


def generate(*words: object) -> int:
    return run(["generate", *map(str, words), "--steps", "2", "--device", "cpu"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_prompts_are_outermost_and_image_i_has_seed_plus_i(tiny_sd: Path, tmp_path: Path, capsys: Any) -> None:
    assert generate(tiny_sd, "a cat", "a dog", "--n", 2, "--seed", 5, "--out", tmp_path / "new") == 0
    assert names(tmp_path / "new") == ["00000-5.png", "00001-6.png", "00002-5.png", "00003-6.png"]
    read = [infotext.read_png(tmp_path / "new" / name) for name in names(tmp_path / "new")]
    assert [each.prompt for each in read] == ["a cat", "a cat", "a dog", "a dog"]
    assert [each.fields["Seed"] for each in read] == ["5", "6", "5", "6"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / name) for name in names(tmp_path / "new")]


def test_a_picture_alone_is_the_picture_of_the_set(tiny_sd: Path, tmp_path: Path) -> None:
    generate(tiny_sd, "a cat", "--n", 3, "--sampler", "Euler a", "--out", tmp_path / "set")
    generate(tiny_sd, "a cat", "--seed", 2, "--sampler", "Euler a", "--out", tmp_path / "alone")
    one, other = (
        np.asarray(Image.open(path)).astype(int)
        for path in (tmp_path / "set" / "00002-2.png", tmp_path / "alone" / "00000-2.png")
    )
    assert np.abs(one - other).max() <= 1


def test_json_is_all_that_stdout_holds(tiny_sd: Path, tmp_path: Path, capsys: Any) -> None:
    assert generate(tiny_sd, "a cat", "--json", "--out", tmp_path, "--negative", "dogs", "--size", "16x24") == 0
    (told,) = json.loads(capsys.readouterr().out)
    read = infotext.read_png(told["path"])
    assert told["request"]["prompt"] == "a cat"
    assert read.provenance == {key: value for key, value in told.items() if key not in ("path", "infotext")}
    assert (read.negative_prompt, read.fields["Size"]) == ("dogs", "16x24")
    assert read.fields["Model"] == "tiny-sd"
    assert len(read.fields["Model hash"]) == 10


def test_without_out_a_new_folder_is_made(tiny_sd: Path) -> None:
    assert generate(tiny_sd, "a cat") == 0
    assert [path.name for path in Path("pictures").glob("*/*")] == ["00000-0.png"]


def test_a_prompt_may_be_a_file_of_prompts(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a cat\n# a remark\n\na dog\n", "utf-8")
    assert generate(tiny_sd, f"@{tmp_path / 'mine.txt'}", "a fish", "--out", tmp_path / "out") == 0
    prompts = [infotext.read_png(tmp_path / "out" / name).prompt for name in names(tmp_path / "out")]
    assert prompts == ["a cat", "a dog", "a fish"]


def test_a_lora_option_is_another_adapter(tiny_sd: Path, tmp_path: Path) -> None:
    from test_models import make_lora

    style = make_lora(tiny_sd, tmp_path / "style")
    assert generate(tiny_sd, "a cat", "--lora", f"{style}:-0.5", "--out", tmp_path / "one") == 0
    assert generate(f"{tiny_sd}+{style}@-0.5", "a cat", "--out", tmp_path / "other") == 0
    one, other = ((tmp_path / each / "00000-0.png") for each in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert infotext.read_png(one).fields["Lora weights"] == "style: -0.5"


def test_from_a_picture_and_a_mask(tiny_sd: Path, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "init.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save(tmp_path / "mask.png")
    options = ["--init", tmp_path / "init.png", "--mask", tmp_path / "mask.png", "--strength", 0.5]
    assert generate(tiny_sd, "a cat", *options, "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "00000-0.png") as image:
        assert image.getpixel((20, 3)) == (255, 0, 0)
        assert image.getpixel((3, 3)) != (255, 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "Eular"], "Did you mean Euler?"),
        (["--sampler", "DPM++ SDE"], "not available"),
        (["--size", "31x32"], "width 31 is not a multiple of 4; nearest: 32"),
        (["--size", "big"], "is not a size"),
        (["--cfg", "-1"], "cfg: -1.0"),
        (["--n", "0"], "--n"),
        (["--lora", "nothing:1"], "there is no 'nothing'"),
        (["--lora", "nothing:much"], "'much' in 'nothing:much' is not a weight"),
        (["--init", "nowhere.png"], "There is no picture 'nowhere.png'"),
        (["--mask", "nowhere.png"], "There is no picture 'nowhere.png'"),
        (["--precision", "fp16"], "fp16 needs a GPU"),
        (["--strength", "2"], "strength: 2.0"),
    ],
)
def test_a_wrong_request_ends_with_2_and_writes_nothing(
    tiny_sd: Path, tmp_path: Path, capsys: Any, options: list[str], message: str
) -> None:
    assert generate(tiny_sd, "a cat", *options, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.split("error: ")[1].strip().splitlines()) <= 3
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_ends_with_2(tmp_path: Path, capsys: Any) -> None:
    assert generate("./no/such", "a cat", "--out", tmp_path / "out") == 2
    assert "error: base: there is no folder or file './no/such'" in capsys.readouterr().err


def test_the_models_here_are_listed(capsys: Any) -> None:
    assert run(["models", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert run(["models"]) == 0


def test_prompts_can_be_written_beside_the_pictures_as_captions(tiny_sd: Path, tmp_path: Path) -> None:
    assert generate(tiny_sd, "a cat", "a dog", "--captions", "--out", tmp_path) == 0
    assert (tmp_path / "00000-0.txt").read_text("utf-8") == "a cat"
    assert [Captioned(path=str(tmp_path)).build()[place].caption for place in (0, 1)] == ["a cat", "a dog"]
