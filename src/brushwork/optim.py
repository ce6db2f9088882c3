"""Optimizers, learning-rate schedules, gradient clipping and the moving average of the weights."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, RunFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    import torch
    from torch import Tensor, nn

    from brushwork.config import OptimizerConfig
    from brushwork.values import ParameterGroup


LEAST_IN_8_BITS = 4096
"""Elements from which on bitsandbytes keeps a weight's state in 8 bits."""


def build(
    config: OptimizerConfig, groups: Sequence[ParameterGroup], *, fused_backward: bool = False
) -> torch.optim.Optimizer:
    """Return the optimizer over the groups; each keeps its own base rate in ``initial_lr``.

    With ``fused_backward`` it is Adafactor, and the backward pass does its steps; see ``brushwork.fused_backward``.

    Raises:
        ConfigError: The optimizer's package is not installed, or it takes one rate only and the groups have several.
    """
    import torch

    assert config.learning_rate is not None, "brushwork.defaults chooses it"
    described: list[dict[str, Any]] = [
        {
            "params": list(group.parameters.values()),
            "lr": group.learning_rate or config.learning_rate,
            "initial_lr": group.learning_rate or config.learning_rate,
        }
        for group in groups
    ]
    plain: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.adam_weight_decay}
    betas = {"betas": (config.adam_beta1, config.adam_beta2)}
    settings = plain | betas | {"eps": config.adam_epsilon}
    optimizer: torch.optim.Optimizer
    if config.type == "adamw":
        # One fused kernel for all parameters: 3 to 4 times as fast as the loop over them on a CPU.
        return torch.optim.AdamW(described, fused=True, **settings)
    if config.type == "adafactor":
        from brushwork import fused_backward as fused

        return (fused.build if fused_backward else torch.optim.Adafactor)(described, **plain)
    if config.type == "muon":
        from brushwork import muon

        return muon.build(muon.groups(described, groups), **settings)
    if config.type == "prodigy":
        return _prodigy(described, settings)
    if config.type == "schedulefree":
        optimizer = _package(config.type, "schedulefree").AdamWScheduleFree(described, **settings)
        optimizer.train()  # type: ignore[attr-defined]
        return optimizer
    module = _package(config.type, "bitsandbytes", "bnb")
    kind, given = (module.optim.Lion, plain | betas) if config.type == "lion" else (module.optim.AdamW8bit, settings)
    _probe(config.type, kind, next(iter(groups[0].parameters.values())).device)
    optimizer = kind(described, **given)
    return optimizer


def _probe(name: str, kind: Any, device: torch.device) -> None:
    """Do one step with an optimizer of bitsandbytes, whose kernels are not there for every device.

    Raises:
        ConfigError: It cannot be done.
    """
    import torch

    weight = torch.nn.Parameter(torch.ones(LEAST_IN_8_BITS, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        kind([weight], lr=0.1).step()
    # A missing kernel is a RuntimeError to torch; a library that found none of its own has None in its place.
    except (RuntimeError, AttributeError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"optimizer.type {name}: bitsandbytes cannot do it on {device}: {why}. Use adamw."
        raise ConfigError(message) from error
    if not bool((weight < 1).all()):
        message = f"optimizer.type {name}: on {device} bitsandbytes leaves the weights as they are. Use adamw."
        raise ConfigError(message)


def _package(name: str, package: str, extra: str | None = None) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        message = f"optimizer.type {name} needs {package}: pip install 'brushwork[{extra or package}]', or use adamw."
        raise ConfigError(message) from error


def _prodigy(described: list[dict[str, Any]], settings: dict[str, Any]) -> torch.optim.Optimizer:
    package = _package("prodigy", "prodigyopt", "prodigy")
    rates = {group["lr"] for group in described}
    if len(rates) > 1:
        listed = ", ".join(f"{rate:g}" for rate in sorted(rates))
        message = (
            f"optimizer.type prodigy finds one rate for everything, but this method has {listed}. Leave the other "
            f"rates out, or use adamw."
        )
        raise ConfigError(message)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that its weight decay is decoupled
        # What its authors advise for diffusion models.
        optimizer: torch.optim.Optimizer = package.Prodigy(
            described, use_bias_correction=True, safeguard_warmup=True, **settings
        )
    return optimizer


@contextlib.contextmanager
def at_rest(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within this context the parameters are those to draw with and to save, not those that gradients are taken at.

    They differ for schedule-free optimizers only (Defazio et al. 2024, arXiv:2405.15682: x and y). Afterwards they are
    put back bit for bit, which the optimizer's own arithmetic would not do.
    """
    import torch

    if not hasattr(optimizer, "eval"):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    modes = [group["train_mode"] for group in optimizer.param_groups]
    optimizer.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, tensor in zip(parameters, kept, strict=True):
                parameter.copy_(tensor)
        for group, mode in zip(optimizer.param_groups, modes, strict=True):
            group["train_mode"] = mode


def lr_factor(config: OptimizerConfig, step: int, total: int) -> float:
    """Return what the base rate is multiplied by at step 0 .. total - 1.

    The formulas are those of diffusers' ``get_scheduler`` (``warmup_stable_decay``: transformers'). A function of the
    step alone, so there is no state to save. ``lr_end`` is relative to ``learning_rate`` here.
    """
    warm_up = config.lr_warmup_steps or 0
    if step < warm_up:
        return step / warm_up
    if config.lr_decay_steps is not None:
        return min(1.0, (total - step) / config.lr_decay_steps)
    progress = (step - warm_up) / max(1, total - warm_up)
    if config.lr_scheduler == "constant":
        return 1.0
    if config.lr_scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if config.lr_scheduler == "cosine_with_restarts":
        return 0.5 * (1 + math.cos(math.pi * ((config.lr_num_cycles * progress) % 1.0))) if progress < 1 else 0.0
    power = 1.0 if config.lr_scheduler == "linear" else config.lr_power
    assert config.learning_rate is not None, "brushwork.defaults chooses it"
    end = config.lr_end / config.learning_rate
    return end + (1 - end) * math.pow(1 - min(progress, 1.0), power)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its base rate times ``factor``; return the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: float | None, optimizer: torch.optim.Optimizer | None = None
) -> float:
    """Scale all gradients so that their joint 2-norm is at most ``max_norm``; return the norm before.

    An ``optimizer`` that has used up the gradients in the backward pass (``norm``) says what their norm was.

    Raises:
        RunFailed: No parameter has a gradient: the loss does not reach what is being trained.
    """
    import torch

    if optimizer is not None and hasattr(optimizer, "norm"):
        return float(optimizer.norm())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        message = "No trainable weight received a gradient: the loss does not depend on what this method trains."
        raise RunFailed(message)
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return float(norm)


class MovingAverage:
    """An exponential moving average of parameters, warmed up as diffusers' ``EMAModel`` is."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float, device: str | None = None) -> None:
        self.decay, self.device = decay, device
        self.parameters = list(parameters)
        self.average: list[Tensor] = [
            parameter.detach().to(device or parameter.device, copy=True) for parameter in self.parameters
        ]

    def load(self, average: Sequence[Tensor]) -> None:
        """Go on from a saved average."""
        self.average = [
            each.to(self.device or parameter.device) for each, parameter in zip(average, self.parameters, strict=True)
        ]

    def update(self, step: int) -> None:
        """Move the average towards the parameters after optimizer step ``step`` (from 1)."""
        import torch

        # (1 + n) / (10 + n) lets a short run's average follow; diffusers counts n from the second step.
        decay = min(self.decay, step / (9 + step)) if step > 1 else 0.0
        with torch.no_grad():
            current = [each.detach().to(old.device) for each, old in zip(self.parameters, self.average, strict=True)]
            torch._foreach_lerp_(self.average, current, 1 - decay)

    def swap(self) -> None:
        """Exchange the parameters with their average (twice is nothing)."""
        for index, parameter in enumerate(self.parameters):
            average = self.average[index]
            parameter.data, self.average[index] = average.to(parameter.device), parameter.data.to(average.device)
