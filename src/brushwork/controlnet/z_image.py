"""ControlNets of Z-Image: a few of the denoiser's layers once more, which share its embedders and refiners.

They see latents of the map, and speak to the layers that their config names, to pictures and texts alike. Texts are of
any length: what is said is filled up with zeros to the longest there may be, and cut again by the family.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from brushwork.controlnet.kinds import Empty, Glance, Kind, built, encoded, must_equal, numbered
from brushwork.controlnet.layers import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from brushwork.controlnet import Network
    from brushwork.values import Conditioning, Family

CLASS = "ZImageControlNetModel"
PATCH = 4
"""Latents of a patch."""
REFINER = "control_noise_refiner"
SHARED = (
    "t_scale", "t_embedder", "all_x_embedder", "cap_embedder", "rope_embedder", "noise_refiner", "context_refiner",
    "x_pad_token", "cap_pad_token",
)  # fmt: skip


def see(family: Any, network: Any, pixels: Tensor) -> Tensor:
    """Return latents (B, channels, 1, h, w); what else the network could see, as for inpainting, is zeros."""
    from torch.nn.functional import pad

    latents = encoded(family, pixels)
    return pad(latents, (0, 0, 0, 0, 0, int(network.config["control_in_dim"]) - latents.shape[1]))[:, :, None]


def ask(family: Any, network: Any, glance: Glance) -> dict[str, Tensor]:
    """Return what is said to each layer that is spoken to, (B, most tokens, width)."""
    from torch.nn.functional import pad

    with _lent(network, family.denoiser):
        samples = network(
            **family.shown(glance.latents, glance.timesteps, glance.texts),
            control_context=list(glance.seen.unbind(0)),
            conditioning_scale=glance.control.weight,
        )
    most = family.tokens(glance.latents)
    return {
        f"{NAME}_{layer}": pad(sample, (0, 0, 0, most - sample.shape[1])) for layer, sample in sorted(samples.items())
    }


@contextlib.contextmanager
def _lent(network: Any, denoiser: Any) -> Iterator[None]:
    """Lend a network the parts that it shares with the base; kept, they would hold on to a base that has gone."""
    lacking = [name for name in SHARED if getattr(network, name) is None]
    network.from_transformer(network, denoiser)
    try:
        yield
    finally:
        for name in lacking:
            setattr(network, name, None)


def added(conditioning: Conditioning, layers: int, length: int) -> dict[int, Tensor] | None:
    """Return what is added to each layer, cut to the tokens that there are; None: nothing."""
    every = {layer: conditioning.tensors.get(f"{NAME}_{layer}") for layer in range(layers)}
    return {layer: sample[:, :length] for layer, sample in every.items() if sample is not None} or None


def build(state: dict[str, Tensor], family: Any, name: str) -> Empty:
    """Return the network of a file, with the places of layers that published ones have.

    Which layers are spoken to is not in the file: they are as far apart as the base's allow, the first among them. A
    file whose refiner was not trained is of version 2.0, whose layers refine too (diffusers:
    ``infer_diffusers_model_type``).
    """
    count, layers = len(numbered(state, "control_layers")), int(family.denoiser.config.n_layers)
    seen = state.get("control_all_x_embedder.2-1.weight")
    trained = state.get(f"{REFINER}.0.before_proj.weight")
    channels = 0 if seen is None else int(seen.shape[1]) // PATCH
    refines: str | None = None
    if channels != int(family.denoiser.config.in_channels):
        refines = "control_layers" if trained is None or not bool(trained.any()) else REFINER
    if refines == "control_layers":
        state = {key: value for key, value in state.items() if not key.startswith(f"{REFINER}.")}
    shape = {
        "control_layers_places": list(range(0, layers, max(1, layers // max(1, count))))[:count],
        "control_refiner_layers_places": list(range(int(family.denoiser.config.n_refiner_layers))),
        "control_in_dim": channels,
        "add_control_noise_refiner": refines,
    }
    return built(CLASS, family, state, name, "control_all_x_embedder.2-1.weight", shape)


def fit(network: Network, family: Family) -> None:
    """Refuse a network that sees less than the latents, or speaks to layers that there are not."""
    config: Any = family.denoiser
    layers, places = int(config.config.n_layers), network.config["control_layers_places"]
    must_equal(network, family, "last layer spoken to", max(places), min(max(places), layers - 1))


KIND = Kind(CLASS, ("dim", "n_heads", "all_patch_size", "all_f_patch_size"), see, ask, build, fit)
