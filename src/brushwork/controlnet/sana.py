"""ControlNets of Sana: the denoiser's first layers once more, which see latents of the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.controlnet.kinds import Empty, Glance, Kind, built, encoded, must_equal, numbered, width
from brushwork.controlnet.layers import in_order

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.controlnet import Network
    from brushwork.values import Family

CLASS = "SanaControlNetModel"


def see(family: Any, network: Any, pixels: Tensor) -> Tensor:  # noqa: ARG001  (as the others)
    """Return latents (B, C, h, w)."""
    return encoded(family, pixels)


def ask(family: Any, network: Any, glance: Glance) -> dict[str, Tensor]:
    """Return what is said to the blocks after the first, each (B, tokens, width)."""
    (samples,) = network(
        **family.shown(glance.latents, glance.timesteps, glance.texts),
        controlnet_cond=glance.seen,
        conditioning_scale=glance.control.weight,
        return_dict=False,
    )
    return in_order(samples)


def build(state: dict[str, Tensor], family: Any, name: str) -> Empty:
    """Return the network of a file in diffusers' names."""
    shape = {"num_layers": len(numbered(state, "transformer_blocks"))}
    return built(CLASS, family, state, name, "input_block.weight", shape)


def fit(network: Network, family: Family) -> None:
    """Refuse a network of another width."""
    denoiser: Any = family.denoiser
    must_equal(network, family, "width", width(network.config), width(denoiser.config))


KIND = Kind(CLASS, ("in_channels", "patch_size", "caption_channels"), see, ask, build, fit)
