"""A run from request to report, and everything that may go wrong before anything is written."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from brushwork import api
from brushwork.errors import ConfigError, DataError, ModelError, UserError

if TYPE_CHECKING:
    from pathlib import Path


def request(base: Path, data: Path, /, **changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "base": str(base),
        "method": {"type": "lora", "rank": 2},
        "data": {"type": "captioned", "path": str(data), "resolution": 32},
        "train": {
            "max_train_steps": 4,
            "train_batch_size": 2,
            "validation_steps": 2,
            "checkpointing_steps": 2,
            "device": "cpu",
        },
        "validation": {
            "prompts": ["a cat", "a dog"],
            "num_inference_steps": 2,
            "samples_during_training": 1,
            "images_per_prompt": 1,
        },
    }
    return tree | {
        key: tree.get(key, {}) | value if isinstance(value, dict) else value for key, value in changes.items()
    }


def test_a_run_folder_has_all_its_parts(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = api.train(request(tiny_sd, tiny_data), out=tmp_path / "run")
    expected = ["config.yaml", "run.json", "steps.jsonl", "samples/0", "samples/4", "checkpoints/4", "metrics.json",
                "weights/pytorch_lora_weights.safetensors", "report.html", "README.md"]  # fmt: skip
    assert [name for name in expected if not (run.path / name).exists()] == []
    record = run.record
    assert record["status"] == "done"
    assert record["trainable_parameters"] < record["total_parameters"]
    assert record["artefact"]["bytes"] == (run.weights / "pytorch_lora_weights.safetensors").stat().st_size
    assert record["peak_memory_bytes"] > 0
    assert {"prepare", "train", "evaluate"} == set(record["seconds"])
    assert [step["index"] for step in run.steps()] == [1, 2, 3, 4]


def test_the_config_of_a_run_reproduces_it(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    first = api.train(request(tiny_sd, tiny_data), out=tmp_path / "first", evaluate=False)
    again = api.train(first.path / "config.yaml", out=tmp_path / "again", evaluate=False)
    name = "pytorch_lora_weights.safetensors"
    assert (first.weights / name).read_bytes() == (again.weights / name).read_bytes()
    assert first.config == again.config


def test_a_stop_request_ends_between_two_steps_and_resume_finishes(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path
) -> None:
    whole = api.train(request(tiny_sd, tiny_data), out=tmp_path / "whole", evaluate=False)
    config = request(tiny_sd, tiny_data, train={"max_train_steps": 4, "checkpointing_steps": 100})
    log = tmp_path / "run" / "steps.jsonl"

    def interrupt() -> None:
        while not log.exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(api.Stopped, match=r"Stopped after step [123]\. Go on with: brushwork train --resume --out"):
        api.train(config, out=tmp_path / "run", evaluate=False)
    watcher.join()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"

    run = api.resume(tmp_path / "run", evaluate=False)
    assert [step["index"] for step in run.steps()] == [1, 2, 3, 4]
    name = "pytorch_lora_weights.safetensors"
    assert (run.weights / name).read_bytes() == (whole.weights / name).read_bytes()


def test_a_finished_run_is_not_resumed(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    api.train(request(tiny_sd, tiny_data), out=tmp_path / "run")
    with pytest.raises(UserError, match="this run is finished"):
        api.resume(tmp_path / "run")


def test_python_generates_from_a_run(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = api.train(request(tiny_sd, tiny_data), out=tmp_path / "run", evaluate=False)
    (picture,) = run.generate("a cat", seed=1, steps=2)
    assert picture.size == (32, 32)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base": "nobody/nothing"}, ModelError, "neither a folder here nor in the hub's cache"),
        ({"base": "./missing-folder"}, ModelError, "no folder or file './missing-folder'"),
        ({"data": {"path": "engravngs"}}, DataError, "Did you mean engravings"),
        ({"train": {"max_train_step": 3}}, ConfigError, "Did you mean max_train_steps"),
        ({"train": {"mixed_precision": "fp16"}}, ConfigError, "fp16 needs a GPU"),
        ({"method": {"targets": ["to_x"]}}, ConfigError, "no layer's name ends in to_x"),
        ({"validation": {"prompts": "taget"}}, ConfigError, "Did you mean target"),
    ],
)
def test_a_wrong_request_leaves_nothing_behind(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        api.train(request(tiny_sd, tiny_data, **changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_broken_picture_leaves_nothing_behind(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tiny_data / "3.png").write_bytes((tiny_data / "3.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"3\.png"):
        api.train(request(tiny_sd, tiny_data), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_caption_leaves_nothing_behind(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tiny_data / "3.txt").unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        api.train(request(tiny_sd, tiny_data), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_occupied_folder_is_not_overwritten(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("work")
    with pytest.raises(UserError, match="exists and is not empty"):
        api.train(request(tiny_sd, tiny_data), out=tmp_path / "run")
    assert (tmp_path / "run" / "precious").read_text() == "work"


def test_a_run_that_fails_says_so_in_its_record(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    hopeless = request(tiny_sd, tiny_data, optimizer={"learning_rate": 1e30, "max_grad_norm": None})
    with pytest.raises(api.RunFailed, match="is not a number"):
        api.train(hopeless, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "is not a number" in record["failure"]


def test_two_processes_do_not_work_on_one_run(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = request(tiny_sd, tiny_data)
    run = api.RunFolder.create(api.configs.load(config), tmp_path / "run")
    with run.locked(), pytest.raises(UserError, match=f"process {os.getpid()} is working on this run"):
        api.resume(run.path)
    assert not (run.path / "run.json").exists()


def test_what_a_kill_left_behind_is_removed_on_resume(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = request(tiny_sd, tiny_data)
    run = api.RunFolder.create(api.configs.load(config), tmp_path / "run")
    (run.path / "checkpoints" / ".2-abc" / "2").mkdir(parents=True)
    api.resume(run.path, evaluate=False)
    assert sorted(each.name for each in (run.path / "checkpoints").iterdir()) == ["2", "4"]
