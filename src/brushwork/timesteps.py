"""Which timesteps are trained, and the noise schedule behind them. Shape letters: B batch, T training timesteps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.values import Family

Sampling = Literal["uniform", "logit_normal"]


def spread(uniform: Tensor, sampling: Sampling, mean: float, std: float) -> Tensor:
    """Turn uniform numbers in [0, 1) into numbers in [0, 1] as ``sampling`` distributes them.

    ``logit_normal`` is sigmoid(mean + std z) with z normal (Esser et al. 2024, arXiv:2403.03206, equation 19): the
    middle more often than the ends.
    """
    import torch

    if sampling == "logit_normal":
        normal = torch.special.ndtri(uniform.double())  # the normal number of which so many are smaller
        return torch.sigmoid(mean + std * normal)
    return uniform


def choose(uniform: Tensor, first: int, stop: int, sampling: Sampling, mean: float, std: float) -> Tensor:
    """Turn uniform numbers (B,) in [0, 1) into timesteps ``first`` to ``stop - 1``; see ``spread``."""
    uniform = spread(uniform, sampling, mean, std)
    count = stop - first
    return (uniform * count).long().clamp_(max=count - 1) + first


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Rescale a schedule (T,) so that its last timestep is pure noise (Lin et al. 2023, arXiv:2305.08891, algorithm 1).

    sqrt(alphas_cumprod) is shifted to end in 0 and stretched to begin as before.
    """
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2


def make_zero_terminal_snr(family: Family) -> None:
    """Let a family train and draw on the rescaled schedule: its scheduler config, which ``save`` writes, says so."""
    if family.scheduler_config.get("rescale_betas_zero_snr"):
        return
    family.alphas_cumprod = zero_terminal_snr(family.alphas_cumprod)
    # The last timestep must be visited when drawing: section 3.3.
    changes: dict[str, Any] = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    family.scheduler_config = {**family.scheduler_config, **changes}
