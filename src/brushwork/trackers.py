"""Where curves go besides the run folder: TensorBoard and Weights & Biases. Each is a consumer of ``Step``."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from brushwork.runs import RunFolder
    from brushwork.train import Step


class Track(Protocol):
    """Send one step somewhere."""

    def __call__(self, step: Step) -> None:
        """Send a step."""


def values(step: Step) -> dict[str, float]:
    """Return what is tracked, under the names that the curves get."""
    tracked = {
        "loss": step.loss,
        "learning_rate": step.lr,
        "grad_norm": step.grad_norm,
        "images_per_second": step.images_per_second,
        "memory_gib": step.memory_bytes / 2**30,
    }
    held_out = {} if step.validation_loss is None else {"validation_loss": step.validation_loss}
    return tracked | held_out | dict(step.numbers)


def check(names: Sequence[str]) -> None:
    """Raise before training when a tracker's package is missing.

    Raises:
        ConfigError: It is not installed.
    """
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None:
            message = f"train.trackers names {name}, which is not installed: pip install 'brushwork[{name}]'"
            raise ConfigError(message)


@contextmanager
def tracking(names: Sequence[str], run: RunFolder, *, purge_after: int) -> Iterator[Track]:
    """Yield a function that sends a step to every named tracker; on resume, later points are dropped."""
    openers = {"tensorboard": _tensorboard, "wandb": _wandb}
    with ExitStack() as stack:
        tracks = [stack.enter_context(openers[name](run, purge_after)) for name in names]

        def track(step: Step) -> None:
            for each in tracks:
                each(step)

        yield track


@contextmanager
def _tensorboard(run: RunFolder, purge_after: int) -> Iterator[Track]:
    from torch.utils.tensorboard import SummaryWriter

    purge = purge_after + 1 if purge_after else None
    with SummaryWriter(str(run.path / "tensorboard"), purge_step=purge) as writer:

        def track(step: Step) -> None:
            for name, value in values(step).items():
                writer.add_scalar(name, value, step.index)

        yield track


@contextmanager
def _wandb(run: RunFolder, purge_after: int) -> Iterator[Track]:  # noqa: ARG001  (W&B keys points by step itself)
    import wandb

    # The run's own name as id, so that resuming continues the same curve. WANDB_MODE=offline needs no network.
    session = wandb.init(
        project="brushwork", id=run.path.name, name=run.path.name, dir=str(run.path), resume="allow",
        config=run.config.model_dump(mode="json"),
    )  # fmt: skip
    try:
        yield lambda step: session.log(values(step), step=step.index)
    finally:
        session.finish()
