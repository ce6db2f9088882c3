"""ControlNets of a UNet: Stable Diffusion 1, 2 and XL (Zhang et al. 2023, arXiv:2302.05543).

The network is a copy of the UNet's encoder. It sees the map itself, which it brings to the size of the latents, and
speaks to each skip connection and to the middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import mask_channels
from brushwork.controlnet import MODES
from brushwork.controlnet.kinds import RGB, Empty, Glance, Kind
from brushwork.controlnet.layers import every, in_order
from brushwork.errors import ConfigError, ModelError
from brushwork.formats.ldm import rename, unet_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from brushwork.controlnet import Network
    from brushwork.values import Conditioning, Family

EMBEDDING, HINT = "controlnet_cond_embedding", "input_hint_block"
"""The layers that see the map, as diffusers and the paper's code call them."""
PREFIX = "control_model."
SOFTER, DEEPEST = 0.825, 12
"""In the soft modes each layer counts so much of the next, up to the thirteenth (sd-webui-controlnet)."""


def see(family: Any, network: Any, pixels: Tensor) -> Tensor:  # noqa: ARG001  (as the others)
    """Return maps as they are."""
    return pixels


def ask(family: Any, network: Any, glance: Glance) -> dict[str, Tensor]:
    """Return one tensor (B, C, h, w) for each skip connection, and the last for the middle.

    A family may have ``told_beside``, which gives what the UNet is told besides (``added_cond_kwargs``).
    """
    beside, control = getattr(family, "told_beside", None), glance.control
    seen = {"controlnet_cond": glance.seen, "conditioning_scale": control.weight}
    if control.union is not None:
        seen = {
            "controlnet_cond": [glance.seen],
            "conditioning_scale": [control.weight],
            "control_type": _one_hot(glance, network.config.num_control_type),
            "control_type_idx": [control.union],
        }
    down, middle = network(
        glance.latents,
        glance.timesteps,
        encoder_hidden_states=glance.texts.tensors["states"],
        **seen,
        guess_mode=control.mode == "guess" or control.pools,
        added_cond_kwargs=None if beside is None else beside(glance.latents, glance.texts),
        return_dict=False,
    )
    samples = (*down, middle)
    if control.mode in ("prompt", "control"):
        samples = tuple(sample * SOFTER ** (DEEPEST - place) for place, sample in enumerate(samples))
    return in_order(samples)


def _one_hot(glance: Glance, sorts: int) -> Tensor:
    """Return which sort of map it is, (B, sorts)."""
    kind = glance.latents.new_zeros(len(glance.latents), sorts)
    kind[:, glance.control.union] = 1
    return kind


def added(conditioning: Conditioning) -> dict[str, Any]:
    """Return what the UNet is told of what ControlNets said; nothing where none did."""
    said = every(conditioning)
    if not said:
        return {}
    return {"down_block_additional_residuals": said[:-1], "mid_block_additional_residual": said[-1]}


def fit(network: Network, family: Family) -> None:
    """Refuse a network of other maps than pictures, or of another autoencoder.

    Raises:
        ConfigError: With both numbers.
    """
    channels = int(network.config.get("conditioning_channels", RGB))
    if channels != RGB:
        message = f"controlnet: {network.name!r} sees maps of {channels} channels, but a picture has {RGB}"
        raise ConfigError(message)
    factor = 2 ** (len(network.config["conditioning_embedding_out_channels"]) - 1)
    if factor != family.pixels_per_latent:
        message = (
            f"controlnet: {network.name!r} sees {factor} pixels a side as one latent, but those of this base "
            f"({family.name}) are {family.pixels_per_latent}"
        )
        raise ConfigError(message)


def build(state: dict[str, Tensor], family: Any, name: str) -> Empty:
    """Return a network of the shape of the base's own encoder, for a file in diffusers' names or the paper's code's.

    Raises:
        ModelError: The file has no layers for a map.
    """
    from diffusers import ControlNetModel

    if "task_embedding" in state:
        message = f"controlnet: {name!r} is a union, whose shape its file does not say; take a folder with config.json"
        raise ModelError(message)
    state = _hints(state)
    module = ControlNetModel.from_unet(
        mask_channels.plain(family),
        conditioning_embedding_out_channels=_embedding(state, name),
        load_weights_from_unet=False,
        conditioning_channels=int(state[f"{EMBEDDING}.conv_in.weight"].shape[1]),
    )
    theirs = original_names(module) if "time_embed.0.weight" in state else {}
    names = {key: rename(key, theirs) or key for key in module.state_dict()} if theirs else {}
    return Empty(module, state, names)


def original_names(module: Any) -> dict[str, str]:
    """Return what the modules of a ``ControlNetModel`` are called in its paper's code, but for those of the map."""
    names = {key: theirs for key, theirs in unet_names(module).items() if not theirs.startswith("out.")}
    zeros = range(len(module.controlnet_down_blocks))
    names |= {f"controlnet_down_blocks.{place}": f"zero_convs.{place}.0" for place in zeros}
    return names | {"controlnet_mid_block": "middle_block_out.0"}


def _hints(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors without the original code's prefix, those of the map by diffusers' names."""
    inner = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)} or dict(state)
    places = sorted({int(key.split(".")[1]) for key in inner if key.startswith(f"{HINT}.")})
    ours = {f"{HINT}.{place}": f"{EMBEDDING}.blocks.{number - 1}" for number, place in enumerate(places)}
    if places:
        ours |= {f"{HINT}.{places[0]}": f"{EMBEDDING}.conv_in", f"{HINT}.{places[-1]}": f"{EMBEDDING}.conv_out"}
    return {rename(key, ours) or key: value for key, value in inner.items()}


def _embedding(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the channels of the layers that bring the map to the size of the latents, from their shapes."""
    blocks = sorted(
        (int(key.split(".")[2]), value.shape[0])
        for key, value in state.items()
        if key.startswith(f"{EMBEDDING}.blocks.") and key.endswith(".weight")
    )
    if f"{EMBEDDING}.conv_in.weight" not in state or not blocks:
        message = f"controlnet: {name!r} is no ControlNet: it has no layers for a map ({EMBEDDING})"
        raise ModelError(message)
    widths = [channels for place, channels in blocks if place % 2 == 0]
    return (*widths, blocks[-1][1])


KIND = Kind(
    "ControlNetModel",
    ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type"),
    see,
    ask,
    build,
    fit,
    union="ControlNetUnionModel",
    modes=MODES,
)
