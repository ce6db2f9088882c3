"""``brushwork compare`` from a shell's point of view."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from test_encoders import make_tiny_clip

from brushwork.cli import run
from brushwork.compare import training

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny_clip(tmp_path_factory.mktemp("judge")))


def small(judge: str) -> list[str]:
    return ["validation.num_inference_steps=2", f"validation.judge={judge}", "validation.images_per_prompt=1"]


def test_models_as_json(tiny_sd: Path, tmp_path: Path, judge: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    (tmp_path / "control.txt").write_text("a house\n")
    out = tmp_path / "out"
    assert run(["compare", str(tiny_sd), "--sweep", "cfg=1,4", "--prompts", str(tmp_path / "prompts.txt"),
                "--control", str(tmp_path / "control.txt"), "--steps", "2", "--seeds", "1", "--seed", "7",
                "--metrics", "clip,saturation", "--json", "--out", str(out),
                f"validation.judge={judge}"]) == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert (told["out"], told["page"]) == (str(out), str(out / "index.html"))
    assert told["prompts"] == {"target": ["a cat", "a dog"], "control": ["a house"], "seeds": 1}
    assert [each["files"][0] for each in told["sides"]] == ["00000-7.png"] * 2
    assert {each["metric"] for each in told["lines"][0]["numbers"]} == {"clip", "saturation"}


def test_methods_from_a_recipe_changed_on_the_command_line(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, judge: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(training, "launch", training.carry_out)
    recipe = tmp_path / "bake.yaml"
    recipe.write_text(
        f"base: {tiny_sd}\ndata: {{path: {tiny_data}, resolution: 32}}\nseconds: 60\n"
        "methods:\n  lora: {method: {rank: 2}}\ntrain: {device: cpu, train_batch_size: 2}\n"
    )
    assert run(["compare", str(recipe), "--steps", "1", "--seed", "5", "--out", str(tmp_path / "out"),
                "--metrics", "saturation", *small(judge), "validation.prompts=[a cat]"]) == 0  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["saturation"]
    assert [line.split()[0] for line in said[1:3]] == ["base", "lora"]
    assert said[-1] == str(tmp_path / "out" / "index.html")
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (record["request"]["steps"], record["request"]["seconds"]) == (1, None)
    assert (tmp_path / "out" / "runs" / "lora-5").is_dir()


def test_a_failed_method_is_exit_code_1(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, judge: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(
        training, "launch", lambda plan, out: "no" if out.name == "b-0" else training.carry_out(plan, out)
    )
    assert run(["compare", "--methods", "a=lora,b=lora", "--base", str(tiny_sd), "--data", str(tiny_data),
                "--steps", "1", "--out", str(tmp_path / "out"), "--metrics", "saturation", *small(judge),
                "data.resolution=32", "train.device=cpu", "validation.prompts=[a cat]"]) == 1  # fmt: skip
    assert "error: b failed: no" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "models"),
    (["mini", "--seconds", "3"], "--seconds is for training. Add --methods"),
    (["mini", "--methods", "lora"], "'mini' is for comparing models"),
    (["--methods", "lora", "--data", "engravings", "--steps", "1", "--cfg", "3"], "--cfg is for comparing models"),
    (["--methods", "lora", "--data", "engravings"], "one budget"),
    (["--methods", "lora", "--steps", "1"], "data is required"),
    (["mini", "--size", "64"], "is not a size"),
    (["mini", "--sweep", "wieght=1"], "Did you mean weight"),
    (["mini", "train.max_train_steps=1"], "only keys of validation"),
    (["one.yaml", "two.yaml"], "One recipe at a time"),
])  # fmt: skip
def test_a_wrong_request_is_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("error: ")
    assert len(told.err.strip().splitlines()) <= 3
    assert told.out == ""
    assert not (tmp_path / "out").exists()
