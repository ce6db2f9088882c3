"""ControlNets of Qwen-Image: layers like the denoiser's own, which see packed latents of the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.controlnet import kinds
from brushwork.controlnet.layers import said

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.controlnet import Network
    from brushwork.values import Family

CLASS = "QwenImageControlNetModel"


def see(family: Any, network: Any, pixels: Tensor) -> Tensor:  # noqa: ARG001  (as the others)
    """Return packed latents (B, tokens, 64)."""
    return kinds.packed(kinds.encoded(family, pixels))


def ask(family: Any, network: Any, glance: kinds.Glance) -> dict[str, Tensor]:
    """Return what is said to the blocks, each (B, tokens, width)."""
    samples = network(
        **family.shown(glance.latents, glance.timesteps, glance.texts),
        controlnet_cond=glance.seen,
        conditioning_scale=glance.control.weight,
        return_dict=False,
    )
    return said("block", samples)


def build(state: dict[str, Tensor], family: Any, name: str) -> kinds.Empty:
    """Return the network of a file in diffusers' names."""
    seen, own = kinds.input_width(state, "controlnet_x_embedder"), int(family.denoiser.config.in_channels)
    shape = {"num_layers": len(kinds.numbered(state, "transformer_blocks")), "extra_condition_channels": seen - own}
    return kinds.built(CLASS, family, state, name, "controlnet_x_embedder.weight", shape)


def fit(network: Network, family: Family) -> None:
    """Refuse a network of another width, or of more than a map."""
    denoiser: Any = family.denoiser
    kinds.must_equal(network, family, "width", kinds.width(network.config), kinds.width(denoiser.config))
    kinds.plain_maps(network, int(network.config["extra_condition_channels"]))


KIND = kinds.Kind(CLASS, ("in_channels", "joint_attention_dim", "axes_dims_rope"), see, ask, build, fit, shares=True)
