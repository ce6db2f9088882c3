"""What to change when a run does not fit, or did not: the least costly setting first."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from brushwork.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brushwork.config import Config
    from brushwork.forecast.estimate import Forecast
    from brushwork.train import Trainer


def alternatives(trainer: Trainer, forecast: Forecast) -> tuple[str, ...]:
    """Return settings with the peak that each would have, from the run's own modules; those that fit say so."""
    from brushwork.forecast import estimate

    config = trainer.config.train
    small = f"train.train_batch_size=1 train.gradient_accumulation_steps={config.effective_batch}"
    tried: list[tuple[str, int, bool]] = []
    divisible = config.batch > 1 and not config.fused_backward
    if divisible:
        tried.append((small, 1, config.gradient_checkpointing))
    if not config.gradient_checkpointing:
        tried.append(("train.gradient_checkpointing=true", config.batch, True))
        if divisible:
            tried.append((f"{small} train.gradient_checkpointing=true", 1, True))
    said = []
    for text, batch, checkpointing in tried:
        phases, _ = estimate._phases(trainer, batch, checkpointing=checkpointing)  # noqa: SLF001  (of this package)
        total = max(phase.total for phase in phases)
        fits = " (fits)" if total <= forecast.available else ""
        said.append(f"{text}: {estimate.size(total)}{fits}")
        if fits:
            return tuple(said)
    return (*said, *others(trainer.config))


def others(config: Config) -> list[str]:
    """Return what helps besides batch and checkpointing, for this configuration."""
    train, found = config.train, []
    if train.mixed_precision == "no" and config.method.type != "full":
        found.append("train.mixed_precision=bf16: frozen weights take half")
    if train.use_ema and train.ema_device is None:
        found.append("train.ema_device=cpu: the average lies in main memory")
    if config.optimizer.type == "adamw" and config.method.type == "full":
        found.append("optimizer.type=adafactor: its state is as small as the weights' rows and columns")
    if config.optimizer.type == "adafactor" and config.method.type == "full" and not train.fused_backward:
        found.append(
            "train.fused_backward=true optimizer.max_grad_norm=null train.gradient_accumulation_steps=1: one gradient "
            "at a time"
        )
    if config.method.type == "full":
        found.append("--method lora: gradients and optimizer of a hundredth of the weights")
    resolution = getattr(config.data, "resolution", None)
    if resolution:
        found.append(f"data.resolution={resolution // 2}: a quarter of the activations")
    return found


def next_cheaper(config: Config) -> str:
    """Return the next setting to try when memory did not suffice, in words for the command line."""
    train = config.train
    if train.batch > 1:
        batch = train.batch // 2
        if train.fused_backward:
            return f"train.train_batch_size={batch}"
        steps = -(-train.effective_batch // batch)
        return f"train.train_batch_size={batch} train.gradient_accumulation_steps={steps} (the same effective batch)"
    if not train.gradient_checkpointing:
        return "train.gradient_checkpointing=true (a third more time)"
    following = others(config)
    return following[0] if following else "a smaller base"


@contextlib.contextmanager
def explaining_out_of_memory(config: Config) -> Iterator[None]:
    """Turn torch's out-of-memory into a message with the next cheaper setting.

    Raises:
        RunFailed: Memory did not suffice.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        message = (
            f"The accelerator's memory did not suffice: {str(error).splitlines()[0]}\n"
            f"Try {next_cheaper(config)}; `brushwork train --dry-run` says what each part takes."
        )
        raise RunFailed(message) from error
