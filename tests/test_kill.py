"""kill -9 a real training process, resume it, and get the weights of an uninterrupted run."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from brushwork import config as configs
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 12
PATIENCE = 120.0

# One server that has imported torch; every run is a fork of it: a process of its own, to be killed as one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["brushwork.train", "diffusers.loaders", "peft", "transformers.models.clip.modeling_clip"]
)


def carry_on(path: str, cache: str) -> None:
    """Do what is left of a run (in a process of its own)."""
    import torch

    from brushwork import progress
    from brushwork.train import steps

    multiprocessing.set_start_method("fork", force=True)  # for the loader workers
    os.environ["BRUSHWORK_CACHE"] = cache
    torch.set_num_threads(1)
    progress.silence()
    run = RunFolder(path)
    for step in steps(run.config, run):
        run.log(step.to_json())


def start(run: RunFolder) -> Any:
    process = PROCESSES.Process(target=carry_on, args=(str(run.path), os.environ["BRUSHWORK_CACHE"]))
    process.start()
    return process


def finish(run: RunFolder) -> None:
    process = start(run)
    process.join(PATIENCE)
    assert process.exitcode == 0


def kill_when(run: RunFolder, is_time: Callable[[], bool]) -> None:
    process = start(run)
    began = time.monotonic()
    while not is_time() and process.is_alive():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.0005)
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL


def artefacts(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.weights)): path.read_bytes() for path in run.weights.rglob("*.safetensors")}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_killed_run_ends_with_the_same_weights(tiny_sd: Path, tiny_data: Path, tmp_path: Path, method: str) -> None:
    """Killed twice: at a random step, and while a checkpoint is being written; with accumulation, EMA and workers."""
    tree: dict[str, Any] = {
        "base": str(tiny_sd),
        "method": {"type": method},
        "data": {
            "type": "captioned",
            "path": str(tiny_data),
            "resolution": 32,
            "random_flip": True,
            "center_crop": False,
        },
        "optimizer": {"learning_rate": 1e-3, "lr_scheduler": "cosine"},
        "train": {
            "max_train_steps": STEPS, "train_batch_size": 2, "gradient_accumulation_steps": 2, "use_ema": True,
            "checkpointing_steps": 2, "dataloader_num_workers": 1, "device": "cpu",
        },
        "validation": {"prompts": ["a cat"], "samples_during_training": 0},
    }  # fmt: skip
    config = configs.load(tree)
    whole, killed = RunFolder.create(config, tmp_path / "whole"), RunFolder.create(config, tmp_path / "killed")
    finish(whole)

    at = random.SystemRandom().randint(1, STEPS // 2)
    kill_when(killed, lambda: len(killed.steps()) >= at)
    writing = lambda: any(killed.path.glob("checkpoints/.*/*/state.safetensors"))  # noqa: E731
    kill_when(killed, lambda: writing() or len(killed.steps()) >= STEPS - 1)
    assert not killed.weights.exists()
    finish(killed)

    assert [step["index"] for step in killed.steps()] == list(range(1, STEPS + 1))
    keys = ("index", "loss", "lr", "grad_norm")
    assert [[step[key] for key in keys] for step in killed.steps()] == [
        [step[key] for key in keys] for step in whole.steps()
    ]
    assert artefacts(killed) == artefacts(whole) != {}, f"killed at step {at}"
