"""ControlNets of Stable Diffusion 3 and 3.5: layers like the denoiser's own, which see latents of the map.

Stability's own for 3.5 large read no text and take the places of patches from the base; others have their own, and
were trained with the pooled texts as zeros and with latents that are not shifted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.controlnet import kinds
from brushwork.controlnet.layers import said
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from brushwork.controlnet import Network
    from brushwork.values import Family

CLASS = "SD3ControlNetModel"
ZEROS = "force_zeros_for_pooled_projection"


def see(family: Any, network: Any, pixels: Tensor) -> Tensor:
    """Return latents (B, C, h, w), shifted or not as the network says."""
    if not network.config[ZEROS]:
        return kinds.encoded(family, pixels)
    unshifted: Tensor = kinds.means(family, pixels) * family.vae.config.scaling_factor
    return unshifted


def ask(family: Any, network: Any, glance: kinds.Glance) -> dict[str, Tensor]:
    """Return what is said to the blocks, each (B, tokens, width).

    Raises:
        ConfigError: The picture is larger than the network has places for.
    """
    shown, config = family.shown(glance.latents, glance.timesteps, glance.texts), network.config
    if config[ZEROS]:
        shown["pooled_projections"] = shown["pooled_projections"] * 0
    if config["joint_attention_dim"] is None:
        shown["encoder_hidden_states"] = None
    if network.pos_embed is None:
        shown["hidden_states"] = family.denoiser.pos_embed(shown["hidden_states"])
    else:
        most, side = config["pos_embed_max_size"] * config["patch_size"], max(glance.latents.shape[-2:])
        if side > most:
            pixels = family.pixels_per_latent
            message = (
                f"controlnet: it knows pictures to {most * pixels} pixels a side, but this one has {side * pixels}"
            )
            raise ConfigError(message)
    (samples,) = network(
        **shown, controlnet_cond=glance.seen, conditioning_scale=glance.control.weight, return_dict=False
    )
    return said("block", samples)


def build(state: dict[str, Tensor], family: Any, name: str) -> kinds.Empty:
    """Return the network of a file in diffusers' names."""
    channels, texts = int(family.denoiser.config.in_channels), kinds.input_width(state, "context_embedder")
    layers, places = kinds.numbered(state, "transformer_blocks"), state.get("pos_embed.pos_embed")
    patches = state.get("pos_embed_input.proj.weight")
    shape = {
        "num_layers": len(layers),
        "extra_conditioning_channels": 0 if patches is None else int(patches.shape[1]) - channels,
        "joint_attention_dim": texts or None,
        "dual_attention_layers": tuple(
            layer for layer in layers if f"transformer_blocks.{layer}.attn2.to_q.weight" in state
        ),
        "qk_norm": "rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in state else None,
        "use_pos_embed": places is not None,
        **({} if places is None else {"pos_embed_max_size": round(places.shape[1] ** 0.5)}),
        ZEROS: texts > 0,
    }
    return kinds.built(CLASS, family, state, name, "pos_embed_input.proj.weight", shape)


def fit(network: Network, family: Family) -> None:
    """Refuse a network of another width, of other texts, or of more than a map."""
    ours: Any = family.denoiser
    theirs = network.config
    kinds.must_equal(network, family, "width", kinds.width(theirs), kinds.width(ours.config))
    if theirs["joint_attention_dim"] is not None:
        kinds.must_equal(
            network, family, "joint_attention_dim", theirs["joint_attention_dim"], ours.config.joint_attention_dim
        )
    kinds.plain_maps(network, int(theirs["extra_conditioning_channels"]))


KIND = kinds.Kind(CLASS, ("in_channels", "patch_size", "pooled_projection_dim"), see, ask, build, fit)
