"""DDIM with gradients: from noise to a picture and, the same way upwards, from a picture to the noise it came from.

    times = ladder(500, 6)                                       # 499, 416, ..., 82
    noisy = invert(predict, latents, ladder(500, 40), schedule, "epsilon")
    clean = sample(predict, noisy, times, schedule, "epsilon", tracked=6)

Song et al. 2020, arXiv:2010.02502, equation 12 without its noise: the step from t to s mixes the predicted picture and
the predicted noise anew, x_s = sqrt(a_s) x0 + sqrt(1 - a_s) noise. ``predict`` takes noisy latents (B, C, H, W) and
timesteps (B,); a schedule is alphas_cumprod (T,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork import predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from brushwork.values import Prediction

    Predict = Callable[[Tensor, Tensor], Tensor]


def ladder(start: int, steps: int) -> list[int]:
    """Return evenly spaced timesteps from ``start`` - 1 down; the step from the last leads to the picture."""
    return [round(start * (steps - place) / steps) - 1 for place in range(steps)]


def sample(
    predict: Predict,
    noisy: Tensor,
    times: Sequence[int],
    schedule: Tensor,
    prediction: Prediction,
    *,
    tracked: int,
    checkpointing: bool = False,
) -> Tensor:
    """Return the clean latents (B, C, H, W) at the end of the path.

    Args:
        predict: The denoiser.
        noisy: Latents at the timestep ``times[0]``.
        times: Falling timesteps.
        schedule: On the latents' device.
        prediction: What the denoiser predicts.
        tracked: Through so many of the last steps the gradient goes (DRaFT-K: Clark et al. 2023, arXiv:2309.17400).
        checkpointing: Compute each of these again in the backward pass, so that one at a time is in memory.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    def step(latents: Tensor, place: int) -> Tensor:
        following = times[place + 1] if place + 1 < len(times) else None
        return _step(predict, latents, times[place], following, schedule, prediction)

    wanted = torch.is_grad_enabled()
    for place in range(len(times)):
        with torch.set_grad_enabled(wanted and place >= len(times) - tracked):
            if checkpointing and torch.is_grad_enabled():
                noisy = checkpoint(step, noisy, place, use_reentrant=False)
            else:
                noisy = step(noisy, place)
    return noisy


def invert(predict: Predict, clean: Tensor, times: Sequence[int], schedule: Tensor, prediction: Prediction) -> Tensor:
    """Return the latents at ``times[0]`` from which ``sample`` would lead back to ``clean`` (B, C, H, W), about.

    Each step takes the prediction at its beginning for that at its end, so more steps lead back more exactly.
    """
    latents, before = clean, None
    for time in reversed(times):
        latents = _step(predict, latents, before, time, schedule, prediction)
        before = time
    return latents


def _step(
    predict: Predict,
    latents: Tensor,
    time: int | None,
    following: int | None,
    schedule: Tensor,
    prediction: Prediction,
) -> Tensor:
    """Go from one timestep to another; None is the clean picture, which the denoiser is shown as timestep 0."""
    import torch

    def level(at: int | None) -> Tensor:
        return schedule.new_ones(len(latents)) if at is None else schedule[at].expand(len(latents))

    times = torch.full((len(latents),), time or 0, device=latents.device, dtype=torch.long)
    said = predict(latents, times)
    clean, noise = predictions.split(said, latents, level(time), prediction)
    return clean if following is None else predictions.mix(clean, noise, level(following))
