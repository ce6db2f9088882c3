"""A run may end by the time of its steps: wholly written, and gone on with exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from brushwork import api, memory
from brushwork.config import load
from brushwork.errors import ConfigError
from brushwork.runs import RunFolder
from brushwork.train import prepare
from brushwork.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.config import Config


def make_config(base: Path, data: Path, **changes: Any) -> Config:
    train = {"max_train_seconds": 1e-6, "train_batch_size": 2, "device": "cpu"} | changes.pop("train", {})
    tree = {"base": str(base), "method": "lora", "data": {"path": str(data), "resolution": 32}, "train": train}
    return load(tree | {"validation": {"samples_during_training": 0, "prompts": ["a cat"]}} | changes)


def test_the_time_of_the_steps_ends_a_run_which_is_then_whole(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = api.train(make_config(tiny_sd, tiny_data), out=tmp_path / "run", evaluate=False)
    assert [step["index"] for step in run.steps()] == [1]
    assert run.record["status"] == "trained"
    assert any(run.weights.iterdir())
    assert (run.path / "checkpoints" / "1").is_dir()
    chosen = {each["key"]: each["value"] for each in run.record["chosen"]}
    assert chosen["optimizer.lr_warmup_steps"] == 0
    assert run.config.train.max_train_steps == chosen["train.max_train_steps"] == 1_000_000


def test_the_steps_end_it_first_if_they_are_fewer(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = make_config(tiny_sd, tiny_data, train={"max_train_steps": 2, "max_train_seconds": 1e6})
    assert len(api.train(config, out=tmp_path / "run", evaluate=False).steps()) == 2


def test_the_time_that_was_spent_is_remembered_by_a_checkpoint(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    config = make_config(tiny_sd, tiny_data, train={"max_train_seconds": 1e6, "checkpointing_steps": 1})
    run = RunFolder.create(config, tmp_path / "run")
    trainer = prepare(config)
    steps = trainer.steps(run)
    for _ in range(2):
        run.log(next(steps).to_json())
    steps.close()
    spent = sum(step["seconds"] for step in run.steps())
    assert trainer.watch.spent == pytest.approx(spent)
    again = prepare(config)
    next(again.steps(run))
    assert again.watch.spent > spent


def test_a_schedule_that_must_know_the_end_is_refused(tiny_sd: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="must know the last step"):
        make_config(tiny_sd, tiny_data, optimizer={"lr_scheduler": "cosine"})


def test_no_limit_is_never_over() -> None:
    assert not Watch(spent=1e9).over
    assert Watch(limit=2.0, spent=2.0).over


def test_the_peak_of_memory_is_this_process_s_and_at_least_what_it_uses() -> None:
    block = bytearray(50_000_000)
    block[::4096] = b"x" * len(block[::4096])
    assert memory.peak("cpu") >= memory.used("cpu") > len(block)
