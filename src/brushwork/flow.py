"""Flow matching: how much noise a sample gets in training, and in which steps a flow model is drawn.

    sigma = sigmas(task.uniform, family.flow, tokens(family.flow, latents.shape))       # (B,), 0 to 1
    scheduler = build(samplers.resolve("Euler"), family, (64, 64), steps=28)

x_sigma = (1 - sigma) x0 + sigma noise, and the model predicts noise - x0, the velocity from the picture to the noise
(Lipman et al. 2022, arXiv:2210.02747; Esser et al. 2024, arXiv:2403.03206, equation 13).
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Literal

from brushwork import samplers, timesteps
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from brushwork.values import Family, Flow

TIMESTEPS = 1000
"""Denoisers are told 1000 sigma (or sigma, which is the family's business)."""
MANY_STEPS = 200
"""A shift that depends on the steps of drawing is taken for so many in training."""
SCHEDULERS = {
    "Euler": "FlowMatchEulerDiscreteScheduler",
    "DPM++ 2M": "DPMSolverMultistepScheduler",
    "UniPC": "UniPCMultistepScheduler",
}
"""What can draw a flow model, by A1111's names."""
KEPT = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "shift_terminal", "time_shift_type")

Weighting = Literal["none", "sigma_sqrt", "cosmap"]


def schedule() -> Tensor:
    """Return alphas_cumprod (1000,) of the variance-preserving process with the flow's signal-to-noise ratios.

    SNR = ((1 - sigma) / sigma)^2 = a / (1 - a), at the middle of each of 1000 equal parts of sigma.
    """
    import torch

    sigma = (torch.arange(TIMESTEPS, dtype=torch.float64) + 0.5) / TIMESTEPS
    return equivalent(sigma)


def equivalent(sigma: Tensor) -> Tensor:
    """Return the alphas_cumprod with the signal-to-noise ratio of sigma, of any shape."""
    signal, noise = (1 - sigma) ** 2, sigma**2
    return signal / (signal + noise)


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Move sigma nearer to noise: s sigma / (1 + (s - 1) sigma)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def tokens(flow: Flow, shape: Sequence[int]) -> int:
    """Return how many tokens latents (..., H, W) are to the denoiser."""
    return (shape[-2] // flow.patch) * (shape[-1] // flow.patch)


def linear_mu(config: Mapping[str, Any]) -> Callable[[int, int], float]:
    """Return the log shift that goes in a line with the tokens, as a scheduler's config says (FLUX.1, Qwen-Image)."""
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)

    def mu(count: int, steps: int) -> float:  # noqa: ARG001  (other families' depends on the steps too)
        return float(low + (high - low) * (count - first) / (last - first))

    return mu


def of_scheduler(config: Mapping[str, Any], **more: Any) -> Flow:
    """Return what a scheduler's config says of the flow."""
    from brushwork.values import Flow

    if config.get("use_dynamic_shifting"):
        return Flow(**{"mu": linear_mu(config), **more})
    return Flow(**{"shift": float(config.get("shift", config.get("flow_shift", 1.0))), **more})


def shift_of(flow: Flow, count: int, steps: int = MANY_STEPS) -> float:
    """Return the shift for pictures of so many tokens."""
    return math.exp(flow.mu(count, steps)) if flow.mu else flow.shift


def sigmas(uniform: Tensor, sampling: timesteps.Sampling, mean: float, std: float, shift: float) -> Tensor:
    """Turn uniform numbers (B,) in [0, 1) into sigmas in (0, 1), in the type of ``uniform``."""
    drawn = timesteps.spread(uniform.double(), sampling, mean, std)
    return shifted(drawn, shift).clamp(1e-5, 1).to(uniform.dtype)


def weights(sigma: Tensor, weighting: Weighting) -> Tensor:
    """Return how much each sample counts (B,).

    ``sigma_sqrt`` is 1 / sigma^2, ``cosmap`` 2 / (pi (1 - 2 sigma + 2 sigma^2)): arXiv:2403.03206, section 3.1 and
    appendix, as in diffusers' scripts.
    """
    import torch

    if weighting == "sigma_sqrt":
        return sigma**-2
    if weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
    return torch.ones_like(sigma)


def build(sampler: samplers.Sampler, family: Family, latents: tuple[int, int], steps: int) -> Any:
    """Build the scheduler that draws latents of a height and width in so many steps.

    Raises:
        ConfigError: The sampler is none for flow models.
    """
    import diffusers

    flow = family.flow
    assert flow is not None, "the caller asks"
    if sampler.name not in SCHEDULERS or sampler.schedule != samplers.AUTOMATIC:
        asked = sampler.name if sampler.schedule == samplers.AUTOMATIC else f"{sampler.name} {sampler.schedule}"
        message = (
            f"sampler: {asked} follows a noise schedule, but this base is a flow model ({family.name}). "
            f"Use {', '.join(SCHEDULERS)}."
        )
        raise ConfigError(message)
    scheduler = getattr(diffusers, SCHEDULERS[sampler.name])
    if sampler.name != "Euler":
        shift = shift_of(flow, tokens(flow, latents), steps)
        solver = {"algorithm_type": "dpmsolver++"} if sampler.name == "DPM++ 2M" else {}
        return scheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, **solver)
    config = family.scheduler_config
    accepted = inspect.signature(scheduler.__init__).parameters
    kept = {key: config[key] for key in KEPT if key in accepted and config.get(key) is not None}
    return scheduler(shift=flow.shift, use_dynamic_shifting=flow.mu is not None, **kept)


def timing(scheduler: Any, flow: Flow, latents: tuple[int, int], steps: int) -> dict[str, Any]:
    """Return what ``set_timesteps`` wants besides the steps, as the families' pipelines give it.

    Raises:
        ConfigError: One step, of a schedule that is stretched to end elsewhere than it begins.
    """
    if type(scheduler).__name__ != SCHEDULERS["Euler"]:
        return {}
    if steps == 1 and scheduler.config.shift_terminal:
        message = "steps: this base's schedule is stretched between its first and its last step; draw in 2 or more."
        raise ConfigError(message)
    given: dict[str, Any] = {}
    if flow.even:
        import numpy as np

        given["sigmas"] = np.linspace(1.0, 1 / steps, steps)
    if flow.mu:
        given["mu"] = flow.mu(tokens(flow, latents), steps)
    return given
