"""ControlNets of FLUX.1: InstantX' and the unions, which see latents of the map, and XLabs', which see the map itself.

They speak to the double blocks and to the single ones. A union has learnt several sorts of maps and is told which one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.controlnet import kinds
from brushwork.controlnet.layers import said

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.controlnet import Network
    from brushwork.values import Family

CLASS = "FluxControlNetModel"
HINT = "input_hint_block"
HINT_PIXELS = 8
"""So many pixels a side are one latent for its layers."""
GUIDANCE = 3.5
"""What dev is told in training, as in diffusers' scripts, and in drawing unless asked otherwise; and what a network is
told that wants a number where the base has none."""


def see(family: Any, network: Any, pixels: Tensor) -> Tensor:
    """Return packed latents (B, tokens, 64), or with a hint block the map in [-1, 1]."""
    return kinds.packed(kinds.encoded(family, pixels)) if network.input_hint_block is None else 2 * pixels - 1


def ask(family: Any, network: Any, glance: kinds.Glance) -> dict[str, Tensor]:
    """Return what is said to the double blocks and to the single ones, each (B, tokens, width)."""
    import torch

    rows, sort = len(glance.latents), glance.control.union
    shown = family.shown(glance.latents, glance.timesteps, glance.texts)
    guidance = shown.pop("guidance")
    if network.config.guidance_embeds and guidance is None:
        guidance = glance.latents.new_full((rows,), GUIDANCE)
    double, single = network(
        **shown,
        guidance=guidance if network.config.guidance_embeds else None,
        controlnet_cond=glance.seen,
        controlnet_mode=None if sort is None else torch.full((rows, 1), sort, device=glance.latents.device),
        conditioning_scale=glance.control.weight,
        return_dict=False,
    )
    return said("block" if network.input_hint_block is None else "turn", double) | said("single", single)


def build(state: dict[str, Tensor], family: Any, name: str) -> kinds.Empty:
    """Return the network of a file in diffusers' names."""
    sorts = state.get("controlnet_mode_embedder.weight")
    hint = state.get(f"{HINT}.conv_out.weight")
    shape = {
        "num_layers": len(kinds.numbered(state, "transformer_blocks")),
        "num_single_layers": len(kinds.numbered(state, "single_transformer_blocks")),
        "guidance_embeds": kinds.input_width(state, "time_text_embed.guidance_embedder.linear_1") > 0,
        "num_mode": None if sorts is None else len(sorts),
        "conditioning_embedding_channels": None if hint is None else len(hint),
    }
    return kinds.built(CLASS, family, state, name, "controlnet_x_embedder.weight", shape)


def fit(network: Network, family: Family) -> None:
    """Refuse a network of another width, or of another autoencoder."""
    denoiser: Any = family.denoiser
    kinds.must_equal(network, family, "width", kinds.width(network.config), kinds.width(denoiser.config))
    if network.config["conditioning_embedding_channels"] is not None:
        pixels = family.pixels_per_latent
        kinds.must_equal(network, family, "number of pixels a side in a latent", HINT_PIXELS, pixels)


KIND = kinds.Kind(
    CLASS, ("in_channels", "joint_attention_dim", "pooled_projection_dim", "axes_dims_rope"), see, ask, build, fit,
    shares=True,
)  # fmt: skip
