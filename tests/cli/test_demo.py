"""``brushwork demo``: what it promises about its data, and that it ends at a report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from brushwork import config, prompts
from brushwork.cli import demo, run
from brushwork.sources.captioned import DATASETS

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = json.loads((DATASETS.parent / "classes.json").read_text("utf-8"))


def test_held_out_things_are_in_no_picture_of_the_engravings() -> None:
    source = config.load(demo.RECIPE).data.build()
    captions = " ; ".join(source[index].caption for index in range(len(source)))
    words = captions.replace(",", " ").split()
    shown = [thing for thing in CLASSES["classes"] if thing in (captions if " " in thing else words)]
    assert len(CLASSES["held_out"]) > len(shown) / 2
    assert [thing for thing in CLASSES["held_out"] if " " not in thing and thing in words] == []
    assert [thing for thing in CLASSES["held_out"] if " " in thing and thing in captions] == []


def test_the_demo_draws_held_out_things_and_unrelated_ones() -> None:
    validation = config.load(demo.RECIPE).validation
    target, control = prompts.resolve(validation.prompts), prompts.resolve(validation.control_prompts)
    assert all(any(thing in prompt for thing in CLASSES["held_out"]) for prompt in target)
    assert all("engraving" in prompt for prompt in target)
    assert not any("engraving" in prompt for prompt in control)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_the_demo_ends_at_the_path_of_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way on the embedded model and data, with fewer steps and pictures than the real demo."""
    small = config.load(
        demo.RECIPE,
        overrides=[
            "train.max_train_steps=2", "optimizer.lr_warmup_steps=0",
            "validation.prompts=[a castle, a dog]", "validation.control_prompts=[a cat]",
            "validation.images_per_prompt=1", "validation.num_inference_steps=2", "validation.loss_images=1",
            "validation.samples_during_training=1",
        ],
    )  # fmt: skip
    recipe = tmp_path / "demo.yaml"
    recipe.write_text(config.to_yaml(small), "utf-8")
    monkeypatch.setattr(demo, "RECIPE", recipe)
    assert run(["demo", "--out", str(tmp_path / "run")]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[-1] == str(tmp_path / "run" / "report.html")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "a castle" in page
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"
