"""TensorBoard and Weights & Biases receive loss, rate, gradient norm, images/s and memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from brushwork import config as configs
from brushwork import trackers
from brushwork.errors import ConfigError
from brushwork.runs import RunFolder
from brushwork.train import Step

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {"loss", "learning_rate", "grad_norm", "images_per_second", "memory_gib", "validation_loss"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(configs.load(data="engravings"), tmp_path / "run")


def step(index: int, **changes: Any) -> Step:
    values: dict[str, Any] = {
        "index": index, "loss": 1 / index, "losses": (1 / index,), "lr": 1e-4, "grad_norm": 2.0, "seconds": 0.5,
        "images_per_second": 8.0, "memory_bytes": 2**30,
    }  # fmt: skip
    return Step(**(values | changes))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_holds_every_curve(run: RunFolder) -> None:
    with trackers.tracking(["tensorboard"], run, purge_after=0) as track:
        for index in (1, 2):
            track(step(index, validation_loss=0.25))
    curves = scalars(run.path / "tensorboard")
    assert set(curves) == NAMES
    assert curves["loss"] == [(1, 1.0), (2, 0.5)]
    assert curves["memory_gib"] == [(1, 1.0), (2, 1.0)]


def test_tensorboard_forgets_steps_that_are_done_again(run: RunFolder) -> None:
    with trackers.tracking(["tensorboard"], run, purge_after=0) as track:
        for index in (1, 2, 3):
            track(step(index))
    with trackers.tracking(["tensorboard"], run, purge_after=1) as track:
        track(step(2, loss=7.0))
    assert scalars(run.path / "tensorboard")["loss"] == [(1, 1.0), (2, 7.0)]


def test_wandb_offline_gets_every_curve(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its service: what is handed to wandb.init and log."""
    seen: list[tuple[dict[str, float], int]] = []
    opened: dict[str, Any] = {}

    class Session:
        def log(self, values: dict[str, float], step: int) -> None:
            seen.append((values, step))

        def finish(self) -> None:
            opened["finished"] = True

    class Wandb:
        @staticmethod
        def init(**settings: Any) -> Session:
            opened.update(settings)
            return Session()

    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    with trackers.tracking(["wandb"], run, purge_after=0) as track:
        track(step(1, validation_loss=0.25))
    assert set(seen[0][0]) == NAMES
    assert (opened["id"], opened["resume"], opened["finished"]) == ("run", "allow", True)
    assert opened["config"]["data"]["path"] == "engravings"


@pytest.mark.slow
def test_wandb_really_writes_offline(run: RunFolder) -> None:
    import subprocess

    code = (
        "from brushwork import trackers; from brushwork.runs import RunFolder; from brushwork.train import Step\n"
        f"with trackers.tracking(['wandb'], RunFolder({str(run.path)!r}), purge_after=0) as track:\n"
        "    track(Step(1, 0.5, (0.5,), 1e-4, 1.0, 0.1, 10.0, 2**30))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, capture_output=True)
    (written,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"grad_norm" in written.read_bytes()


def test_a_tracker_that_is_not_installed_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'brushwork\[wandb\]'"):
        trackers.check(["wandb"])
