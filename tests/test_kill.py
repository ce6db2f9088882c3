"""kill -9 a real training process, go on, and get the weights of an uninterrupted run: every preset of ``rows.py``.

Each run lives three lives: one ends in the middle of a step, one while a checkpoint is being written (both at a moment
that is random but seeded), the last is let finish. A process kills itself, with SIGKILL, so that the moment is exact:
nothing is tidied up and nothing is flushed, as if it had come from elsewhere.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
import rows

from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from warm import Server

    from brushwork.config import Config

STEPS, EVERY, ACCUMULATION = 4, 2, 2
ALIKE = ("dora", "dreambooth-lora", "loha", "lokr", "oft", "clip-guided", "dpo", "dreambooth", "pivotal")
"""What they write is what LoRA, full and textual inversion write, by the same code; left to `make test-all`. That each
goes on exactly from its checkpoints is in ``test_matrix.py``."""
WRITES = 4
"""So many moments at least leave something half done, in the checkpoints that are to come after the first death."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_step(number: int) -> None:
    """Die when the denoiser is about to predict for the so-manieth time."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    left = iter(range(number - 1))

    def look(module: object, _: object) -> None:
        if type(module).__name__ == "UNet2DConditionModel" and next(left, None) is None:
            die()

    register_module_forward_pre_hook(look)


def die_in_a_checkpoint(number: int) -> None:
    """Die at the so-manieth moment at which something is half done.

    In turn: the tensors are written but not the rest; all is written but not in its place; it is in its place but the
    temporary folder is there still; the checkpoint before it has its new name but is there still.
    """
    left = iter(range(number - 1))

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        moment = event in ("os.rename", "shutil.rmtree") or (event == "open" and arguments[1] == "w")
        if moment and "/checkpoints/." in str(arguments[0]) and next(left, None) is None:
            die()

    sys.addaudithook(look)


def live(path: str, end: str, number: int) -> None:
    """Do what is left of a run, or as much as the function named ``end`` allows (in a process of its own)."""
    from brushwork import progress
    from brushwork.train import prepare

    multiprocessing.set_start_method("fork", force=True)  # for the loader workers
    progress.silence()
    run = RunFolder(path)
    trainer = prepare(run.config)
    if end:
        globals()[end](number)
    for step in trainer.steps(run):
        run.log(step.to_json())


def carry_on(server: Server, run: RunFolder, end: str = "", number: int = 0) -> None:
    code = f"import test_kill; test_kill.live({str(run.path)!r}, {end!r}, {number})"
    done = server.run(code, cwd=run.path)
    assert done.code == (-signal.SIGKILL if end else 0), done.output


def artefacts(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.weights)): path.read_bytes() for path in run.weights.rglob("*.safetensors")}


def make_config(name: str, base: Path, data: Path) -> Config:
    """Return a preset with accumulation, a moving average, random crops and a loader worker that makes them."""
    train: dict[str, Any] = {
        "max_train_steps": STEPS, "train_batch_size": 1, "gradient_accumulation_steps": ACCUMULATION, "use_ema": True,
        "checkpointing_steps": EVERY, "checkpoints_total_limit": 1, "dataloader_num_workers": 1,
    }  # fmt: skip
    augmented = {"random_flip": True, "center_crop": False}
    return rows.preset(name, base, data, train=train, data=augmented, optimizer={"lr_scheduler": "cosine"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows.make_data(tmp_path_factory.mktemp("kill"))


@pytest.fixture(autouse=True)
def _one_cache(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRUSHWORK_CACHE", str(data / "cache"))


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.thorough] if each in ALIKE else []) for each in rows.PRESETS]
)
def test_a_killed_run_ends_with_the_same_weights(
    name: str, tiny_sd: Path, data: Path, tmp_path: Path, warm: Server
) -> None:
    config = make_config(name, tiny_sd, data)
    whole, killed = RunFolder.create(config, tmp_path / "whole"), RunFolder.create(config, tmp_path / "killed")
    carry_on(warm, whole)

    draw = random.Random(name)  # noqa: S311  (a seeded moment)
    prediction, write = draw.randint(1, STEPS * ACCUMULATION), draw.randint(1, WRITES)
    carry_on(warm, killed, "die_in_a_step", prediction)
    assert len(killed.steps()) < STEPS
    carry_on(warm, killed, "die_in_a_checkpoint", write)
    assert any((killed.path / "checkpoints").glob(".*")), "it died in a checkpoint, so there is half of one"
    assert not killed.weights.exists()
    carry_on(warm, killed)

    keys = ("index", "loss", "lr", "grad_norm")
    course = [[[step[key] for key in keys] for step in run.steps()] for run in (killed, whole)]
    assert [step[0] for step in course[0]] == list(range(1, STEPS + 1))
    assert course[0] == course[1]
    assert artefacts(killed) == artefacts(whole) != {}, f"killed in prediction {prediction} and at write {write}"
