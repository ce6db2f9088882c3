"""A run as it was at one of its checkpoints, as a folder that opens like a run.

at_step(run, 200, folder)                       # config.yaml, run.json and weights/, made once
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from brushwork import checkpoints, models, states
from brushwork.errors import ConfigError, ModelError, listing
from brushwork.progress import note
from brushwork.runs import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.models import ModelSpec
    from brushwork.runs import RunFolder


def check(text: str, step: int | None, weight: float | None) -> None:
    """Find out without making anything whether a MODEL has a checkpoint, or a strength, to sweep.

    Raises:
        UserError: It has not.
    """
    if step is not None:
        there = checkpoints.steps(states.folder(run_of(text)))
        if step not in there:
            kept = f"It kept those at {listing(map(str, there), 12)}." if there else "It kept none."
            message = (
                f"--sweep: {text} has no checkpoint at step {step}. {kept}\n"
                f"train.checkpoints_total_limit=null keeps all, every train.checkpointing_steps."
            )
            raise ModelError(message)
    if weight is not None:
        with_weight(text, weight)


def run_of(text: str) -> RunFolder:
    """Return the run that a MODEL's text names.

    Raises:
        ConfigError: It names none, or more than that.
    """
    spec = models.parse(text)
    run = models.as_run(spec.base)
    if run is None or spec.adapters:
        message = f"--sweep: {text!r} is no run, so it has no checkpoints to sweep. Name the run's folder."
        raise ConfigError(message)
    return run


def at_step(run: RunFolder, step: int, folder: Path) -> Path:
    """Write what the method would have made after a step, from the checkpoint there; return the folder."""
    if (folder / "weights").is_dir():
        return folder
    import torch

    from brushwork.train import prepare

    note(f"{run.path}: making the weights of step {step}")
    trainer = prepare(run.config, encode=False)
    state = checkpoints.load(states.folder(run) / str(step))
    with torch.no_grad():
        for name, parameter in trainer.named.items():
            parameter.copy_(state["trained"][name])
    trainer.optimizer.load_state_dict(state["optimizer"])  # a schedule-free one draws with an average that it keeps
    if trainer.average:
        trainer.average.load(state["average"])
    with replacing(folder) as temporary:
        temporary.mkdir()
        for name in ("config.yaml", "run.json"):
            shutil.copyfile(run.path / name, temporary / name)
        trainer.write(temporary / "weights")
    return folder


def with_weight(text: str, weight: float) -> str:
    """Return a MODEL's text with another strength of its last adapter.

    Raises:
        ConfigError: It has none, or one that has no strength.
    """
    spec = models.parse(text)
    run = models.as_run(spec.base)
    if spec.adapters:
        return _written(spec, weight)
    if run is not None and not (run.weights / "model_index.json").is_file():
        if run.config.revision or run.config.base_config:
            message = f"--sweep: to weigh {text!r}, write its base out: BASE+{text}"
            raise ConfigError(message)
        return f"{run.config.base}+{run.path}@{weight!r}"
    what = "a whole model" if run is not None else "no adapter"
    message = f"--sweep: {text!r} is {what}, so it has no weight to sweep. Write BASE+ADAPTER, or leave weight out."
    raise ConfigError(message)


def _written(spec: ModelSpec, weight: float) -> str:
    *others, last = spec.adapters
    kept = [f"{each.text}@{each.weight!r}" for each in others]
    return "+".join([spec.base, *kept, f"{last.text}@{weight!r}"])
