"""How a ControlNet of a UNet is asked, and how the UNet is told what it said.

said = ask(network, latents, timesteps, states, seen, weight=1.0, guess=False)
unet(latents, timesteps, states, **added(conditioning))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.controlnet.steering import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from brushwork.values import Conditioning


def ask(
    network: Any,
    latents: Tensor,
    timesteps: Tensor,
    states: Tensor,
    seen: Tensor,
    weight: float,
    *,
    guess: bool,
    told: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Return what is to be added: one tensor (B, C, h, w) for each skip connection, and the last for the middle.

    Args:
        network: diffusers' ``ControlNetModel``.
        latents: Noisy, as the UNet sees them, (B, C, H, W).
        timesteps: (B,).
        states: The texts, (B, tokens, width).
        seen: The maps, (B, 3, height, width) in [0, 1].
        weight: What it says is multiplied by this.
        guess: Whether early layers count less.
        told: What the UNet is told besides (``added_cond_kwargs``).
    """
    down, middle = network(
        latents,
        timesteps,
        encoder_hidden_states=states,
        controlnet_cond=seen,
        conditioning_scale=weight,
        guess_mode=guess,
        added_cond_kwargs=None if told is None else dict(told),
        return_dict=False,
    )
    return (*down, middle)


def added(conditioning: Conditioning) -> dict[str, Any]:
    """Return what the UNet is told of what ControlNets said; nothing where none did."""
    tensors = conditioning.tensors
    every = [tensors[f"{NAME}_{layer}"] for layer in range(len(tensors)) if f"{NAME}_{layer}" in tensors]
    if not every:
        return {}
    return {"down_block_additional_residuals": tuple(every[:-1]), "mid_block_additional_residual": every[-1]}
