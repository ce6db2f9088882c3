"""The readable example is the library's method: the same losses to the last digit, the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from brushwork import config as configs
from brushwork.runs import RunFolder
from brushwork.train import steps

if TYPE_CHECKING:
    from warm import Server

SCRIPT = Path(__file__).parent.parent / "examples" / "one_file_lora.py"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_example_gives_the_same_losses_and_weights(
    tiny_sd: Path, tiny_sd_v: Path, tiny_data: Path, tmp_path: Path, prediction: str, warm: Server
) -> None:
    base = tiny_sd if prediction == "epsilon" else tiny_sd_v
    arguments = ["--steps", "5", "--rank", "4", "--alpha", "2", "--seed", "3", "--flip", "--learning-rate", "1e-2"]
    command = [str(SCRIPT), str(base), str(tiny_data), *arguments, "--out", str(tmp_path / "example")]
    code = f"import runpy, sys; sys.argv = {command!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = warm.run(code, cwd=tmp_path)
    assert done.code == 0, done.output
    theirs = [float(text) for text in re.findall(r"loss (\S+)", done.output)]

    recipe = {
        "base": str(base),
        "method": {"type": "lora", "rank": 4, "alpha": 2},
        "data": {"path": str(tiny_data), "random_flip": True, "validation_split": 0.0},
        "optimizer": {"learning_rate": 1e-2},
        "train": {"max_train_steps": 5, "train_batch_size": 4, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
        "seed": 3,
    }
    config = configs.load(recipe)
    run = RunFolder.create(config, tmp_path / "run")
    ours = [step.loss for step in steps(config, run)]

    assert len(theirs) == 5
    assert theirs == ours
    name = "pytorch_lora_weights.safetensors"
    example, library = load_file(tmp_path / "example" / name), load_file(run.weights / name)
    assert example.keys() == library.keys()
    assert all(bool((example[key] == library[key]).all()) for key in library)


def test_the_example_needs_nothing_of_brushwork_and_stays_short() -> None:
    text = SCRIPT.read_text("utf-8")
    assert not re.search(r"^\s*(import|from) brushwork", text, re.MULTILINE)
    assert len(text.splitlines()) <= 180
