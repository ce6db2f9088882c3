"""The complete state of a run after a step: saved, and put back so that the run goes on exactly.

What is random needs no state (see ``brushwork.seeds``), nor does the learning rate (a function of the step).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import best, checkpoints
from brushwork.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from brushwork.runs import RunFolder
    from brushwork.train import Trainer


def folder(run: RunFolder) -> Path:
    """Return where a run's checkpoints lie."""
    return run.path / "checkpoints"


def point(run: RunFolder) -> int:
    """Return how many steps of a run are done and saved."""
    every = checkpoints.steps(folder(run))
    return every[-1] if every else 0


def save(trainer: Trainer, run: RunFolder, index: int) -> None:
    """Write the state after step ``index`` and drop the oldest above ``checkpoints_total_limit``."""
    state: dict[str, Any] = {
        "step": index,
        "trained": dict(trainer.named),
        "optimizer": trainer.optimizer.state_dict(),
        "average": list(trainer.average.average) if trainer.average else None,
        "scaler": trainer.scaler.state_dict(),
        "norms": trainer.watch.norms,
        "spent": trainer.watch.spent,
        "warnings": trainer.warnings,
        "best": trainer.best.state(),
        "base": trainer.family.fingerprint,
        "data": trainer.data.fingerprint,
        "step_size": trainer.step_size,
    }
    checkpoints.save(folder(run) / str(index), state)
    checkpoints.keep(folder(run), trainer.config.train.checkpoints_total_limit)
    best.tidy(run, trainer.best.step)


def put_weights(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Put the weights, the optimizer and the average of a checkpoint's state in the place of the trainer's."""
    import torch

    with torch.no_grad():
        for name, parameter in trainer.named.items():
            parameter.copy_(state["trained"][name])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.average:
        trainer.average.load(state["average"])


def restore(trainer: Trainer, run: RunFolder) -> int:
    """Load the newest checkpoint of a run, if any; return the number of steps done.

    Raises:
        ModelError: The base, the data or the effective batch are not those that the run began with.
    """
    done = point(run)
    if trainer.world.is_main:
        checkpoints.clean(folder(run))
        run.forget_after(done)
    if not done:
        best.tidy(run, 0)
        return 0
    state = checkpoints.load(folder(run) / str(done))
    for what, now in (("base", trainer.family.fingerprint), ("data", trainer.data.fingerprint)):
        if state[what] != now:
            message = (
                f"{run.path}: the {what} changed since this run began ({state[what][:8]} then, {now[:8]} now), so it "
                f"cannot go on exactly. Start a new run, or put the {what} back."
            )
            raise ModelError(message)
    then = state.get("step_size", trainer.step_size)
    if then != trainer.step_size:
        message = (
            f"{run.path}: a step of this run is {then} pictures, but it would be {trainer.step_size} now (batch size x "
            f"accumulation x processes). Go on with `brushwork train --resume`, which sees to it."
        )
        raise ModelError(message)
    put_weights(trainer, state)
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.watch.norms, trainer.warnings = state["norms"], state["warnings"]
    trainer.watch.spent = state.get("spent", 0.0)
    trainer.best.load(state["best"])
    best.check(trainer.best, run)
    best.tidy(run, trainer.best.step)
    return done
