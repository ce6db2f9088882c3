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

SWAPPING = "train.blocks_to_swap=10 train.gradient_checkpointing=true"


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
        total = max(phase.total for phase in phases if phase.name != estimate.LOADING)
        fits = " (fits)" if total <= forecast.available else ""
        said.append(f"{text}: {estimate.size(total)}{fits}")
        if fits:
            return tuple(said)
    return (*said, *others(trainer.config, accelerator=trainer.device != "cpu"))


def others(config: Config, *, accelerator: bool) -> list[str]:
    """Return what helps besides batch and checkpointing, for this configuration."""
    train, found, method = config.train, [], config.method.build()
    if train.mixed_precision == "no" and config.method.type != "full":
        found.append("train.mixed_precision=bf16: frozen weights take half")
    if train.base_quantization == "none" and "fp8" in getattr(method, "takes_quantized", ()):
        found.append("train.base_quantization=fp8: the denoiser's matrices take half of bf16")
    if accelerator and not method.updates_base and not train.blocks_to_swap:
        found.append(f"{SWAPPING}: so many of the denoiser's blocks lie in main memory")
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
    following = others(config, accelerator=True)
    return following[0] if following else "a smaller base"


def cheaper_to_begin(config: Config) -> str:
    """Return what to try when not even base, captions and pictures went through the accelerator."""
    train, method = config.train, config.method.build()
    if train.mixed_precision == "no" and not method.updates_base:
        return "train.mixed_precision=bf16: frozen weights take half"
    if not method.updates_base and not train.blocks_to_swap:
        return f"{SWAPPING}: so many of the denoiser's blocks lie in main memory"
    resolution = getattr(config.data, "resolution", None)
    return f"data.resolution={resolution // 2}" if resolution and method.updates_base else "a smaller base"


@contextlib.contextmanager
def explaining_out_of_memory(config: Config, *, beginning: bool = False) -> Iterator[None]:
    """Turn torch's out-of-memory into a message with the next cheaper setting.

    Args:
        config: Of the run.
        beginning: Whether the base is only being loaded, captions and pictures encoded.

    Raises:
        RunFailed: Memory did not suffice.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        cheaper = cheaper_to_begin(config) if beginning else next_cheaper(config)
        message = (
            f"The accelerator's memory did not suffice: {str(error).splitlines()[0]}\n"
            f"Try {cheaper}; `brushwork train --dry-run` says what each part takes."
        )
        raise RunFailed(message) from error
