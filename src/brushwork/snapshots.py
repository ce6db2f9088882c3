"""A run as it was after one of its steps: ``RUN@300``, ``RUN@best`` or ``RUN/checkpoints/300``, from its checkpoint.

    snapshot = find("runs/2026-11-21-lora-1a2b@300")
    family = load(snapshot)                     # the base with what the run had learnt by then

A checkpoint holds the trained weights themselves, and their moving average where one is kept; the average is what a run
draws with, so it is what a snapshot draws with. ``best`` is what `brushwork evaluate RUN --checkpoints` decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import checkpoints, families, optim, runs
from brushwork.errors import ModelError, listing
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from brushwork.values import Family

FOLDER = "checkpoints"
BEST = "best"


@dataclass(frozen=True)
class Snapshot:
    """A run and one of the steps that it has a checkpoint of."""

    run: RunFolder
    step: int

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.run.path / FOLDER / str(self.step)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.run.path.name}@{self.step}"


def steps(run: RunFolder) -> list[int]:
    """Return the steps that a run has a checkpoint of, in order."""
    return checkpoints.steps(run.path / FOLDER)


def find(text: str) -> Snapshot | None:
    """Return the snapshot that a text names; None where it names something else.

    Raises:
        ModelError: It names a run, but the run has no checkpoint of that step, or no best one yet.
    """
    path = Path(text).expanduser()
    if path.parent.name == FOLDER and (path.parent.parent / "config.yaml").is_file():
        return _of(RunFolder(path.parent.parent), path.name)
    name, at, step = text.rpartition("@")
    run = runs.named(name) if at and not path.exists() else None
    if run is None or not (step.isdigit() or step == BEST):
        return None
    return _of(run, step)


def best_step(run: RunFolder) -> int | None:
    """Return the step that the evaluation of a run's checkpoints called best; None before there was one."""
    decided = (run.record.get("best") or {}).get("checkpoint") or {}
    return decided.get("step")


def _of(run: RunFolder, step: str) -> Snapshot:
    wanted = best_step(run) if step == BEST else int(step) if step.isdigit() else None
    if step == BEST and wanted is None:
        message = (
            f"model: nobody has looked yet which checkpoint of {run.path} is best.\n"
            f"Do it with: brushwork evaluate {run.path} --checkpoints"
        )
        raise ModelError(message)
    known = steps(run)
    if wanted not in known:
        there = f"It has {listing(map(str, known), 8)}." if known else "It has none."
        message = (
            f"model: {run.path} has no checkpoint of step {step}. {there} train.checkpointing_steps says how often one "
            f"is written, train.checkpoints_total_limit how many are kept."
        )
        raise ModelError(message)
    assert wanted is not None
    return Snapshot(run, wanted)


def load(snapshot: Snapshot, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Family:
    """Load the run's base and give it what the run had learnt by then.

    Raises:
        UserError: The base is not there, or the checkpoint is damaged or another method's.
    """
    config = snapshot.run.config
    family = families.load(config.base, revision=config.revision, config=config.base_config, dtype=dtype, device=device)
    prepare = getattr(config.objective.build(), "prepare", None)
    if prepare is not None:
        prepare(family)
    groups = config.method.build().attach(family, config.seed)
    named = {f"{group.name}.{key}": each for group in groups for key, each in group.parameters.items()}
    state = checkpoints.load(snapshot.path)
    _put(named, state, snapshot)
    if config.optimizer.type == "schedulefree":  # what it trains at is not what it draws with
        optimizer = optim.build(config.optimizer, groups)
        optimizer.load_state_dict(state["optimizer"])
        optimizer.eval()  # type: ignore[attr-defined]  # schedule-free optimizers have it
    for module in (family.denoiser, *family.text_encoders.values()):
        module.eval().requires_grad_(False)  # noqa: FBT003  (torch's own name)
    return family


def _put(named: dict[str, nn.Parameter], state: dict[str, Any], snapshot: Snapshot) -> None:
    """Copy the trained weights of a state, or their moving average, into the parameters of these names."""
    import torch

    trained, average = state["trained"], state["average"]
    if {key: tuple(each.shape) for key, each in trained.items()} != {k: tuple(p.shape) for k, p in named.items()}:
        message = f"model: {snapshot.path} does not fit the run's configuration: it holds other weights."
        raise ModelError(message)
    values = dict(zip(trained, average, strict=True)) if average else trained
    with torch.no_grad():
        for key, parameter in named.items():
            parameter.copy_(values[key])
