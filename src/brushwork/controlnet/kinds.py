"""What ControlNets are in one architecture: their class, what they see, how they are asked.

kind = kind_of(family)                  # families/flux.py says flux.KIND
seen = kind.see(family, network.module, pixels)

Each architecture has a file of its own beside this one, which ends in its ``KIND``.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from brushwork.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from brushwork.controlnet import Control, Mode, Network
    from brushwork.values import Conditioning, Family

RGB = 3
SIDE = 2
"""Of a patch of FLUX and Qwen-Image, in latents."""


class Glance(NamedTuple):
    """What a network is asked about: pictures with equal controls, a row for each latent."""

    latents: Tensor
    """Noisy, as the denoiser sees them, (B, C, h, w)."""
    timesteps: Tensor
    """(B,)."""
    texts: Conditioning
    seen: Tensor
    """The maps, as ``see`` made them, (B, ...)."""
    control: Control


class Empty(NamedTuple):
    """A network without weights, for those of a single file."""

    module: Any
    state: Mapping[str, Tensor]
    """The file's tensors."""
    names: Mapping[str, str] = {}
    """What the network's own tensors are called in it, where that is otherwise."""
    exact: bool = False
    """Whether the file may have nothing besides."""


@dataclass(frozen=True)
class Kind:
    """How ControlNets of one architecture are made and asked.

    Args:
        class_name: diffusers' class.
        same: Keys of the denoiser's config that a network must share, or its outputs could not be added to it.
        see: Turns maps (B, 3, H, W) in [0, 1] into what a network sees.
        ask: Returns what is to be added to the denoiser, by name, each (B, ...).
        build: Makes the network of a single file by the shapes of its tensors, still empty.
        fit: Refuses a network that does not fit besides.
        union: Another class, of networks for several sorts of maps.
        modes: Which modes are known.
        shares: Whether what is said of the prompt counts for the prediction without it too, as in diffusers' pipeline.
    """

    class_name: str
    same: tuple[str, ...]
    see: Callable[[Any, Any, Tensor], Tensor]
    ask: Callable[[Any, Any, Glance], dict[str, Tensor]]
    build: Callable[[dict[str, Tensor], Any, str], Empty]
    fit: Callable[[Network, Family], None] = lambda _network, _family: None
    union: str | None = None
    modes: tuple[Mode, ...] = ("balanced",)
    shares: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Diffusers' classes."""
        return (self.class_name,) if self.union is None else (self.class_name, self.union)


def sorts(network: Network) -> int | None:
    """Return for how many sorts of maps a network is, if for several."""
    config = network.config
    found: int | None = config.get("num_mode") or config.get("num_control_type")
    return found


def kind_of(family: Family) -> Kind:
    """Return what ControlNets of a family are.

    Raises:
        ConfigError: It takes none.
    """
    kind: Kind | None = getattr(family, "control", None)
    if kind is None:
        message = f"controlnet: this base ({family.name}) takes none; leave it out, or choose another base"
        raise ConfigError(message)
    return kind


def must_equal(network: Network, family: Family, what: str, theirs: object, ours: object) -> None:
    """Refuse a ControlNet for another base, with both numbers.

    Raises:
        ConfigError: They differ.
    """
    if theirs != ours:
        message = (
            f"controlnet: {network.name!r} is for another base than this one ({family.name}): its {what} is {theirs}, "
            f"that of the base is {ours}"
        )
        raise ConfigError(message)


def width(config: Mapping[str, Any]) -> int:
    """Return the width of a transformer's tokens."""
    return int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def plain_maps(network: Network, channels: int) -> None:
    """Refuse a network that sees more than a picture, as one for inpainting does.

    Raises:
        ConfigError: It wants so many channels more.
    """
    if channels:
        message = (
            f"controlnet: {network.name!r} sees {channels} channels besides a map's; only plain maps are made here"
        )
        raise ConfigError(message)


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Keep diffusers from telling users that its own FLUX ControlNet imports something by an old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*FluxPosEmbed.* is deprecated", FutureWarning)
        yield


def means(family: Any, pixels: Tensor) -> Tensor:
    """Return maps as the autoencoder's latents, not scaled yet, (B, C, h, w): the mean, so that a seed is one picture.

    diffusers' pipelines draw from the posterior of Stable Diffusion 3, FLUX and Qwen-Image, whose deviation is small.
    """
    weight = next(family.vae.parameters())
    moments = family.encode_images((2 * pixels - 1).to(weight.device, weight.dtype))
    mean: Tensor = moments.mean
    return mean


def encoded(family: Any, pixels: Tensor) -> Tensor:
    """Return maps as scaled latents."""
    latents: Tensor = family.scale_latents(means(family, pixels))
    return latents


def packed(latents: Tensor) -> Tensor:
    """Turn (B, C, h, w) into (B, h/2 w/2, 4 C): one token for each 2 x 2 patch, its channels outermost."""
    import torch

    return torch.nn.functional.pixel_unshuffle(latents, SIDE).flatten(2).transpose(1, 2)


def numbered(state: Mapping[str, Tensor], name: str) -> list[int]:
    """Return the numbers of the layers ``name.0``, ``name.1`` ... that a file has."""
    return sorted({int(key.split(".")[1]) for key in state if key.startswith(f"{name}.")})


def built(
    class_name: str, family: Any, state: dict[str, Tensor], name: str, mark: str, changes: Mapping[str, Any]
) -> Empty:
    """Return an empty network in the denoiser's shape, but for some settings.

    Args:
        class_name: diffusers' class, in whose names the file must be.
        family: The base.
        state: The file's tensors.
        name: The network's, for errors.
        mark: A tensor that every such file has.
        changes: Settings of the class that the file's shapes say.

    Raises:
        ModelError: It is no such file.
    """
    import inspect

    import diffusers
    from accelerate import init_empty_weights

    if mark not in state:
        message = f"controlnet: {name!r} is no {class_name} in diffusers' names: it has no {mark}"
        raise ModelError(message)
    made = getattr(diffusers, class_name)
    known = inspect.signature(made.__init__).parameters
    config = {key: value for key, value in family.denoiser.config.items() if key in known}
    with init_empty_weights(include_buffers=False):
        return Empty(made(**(config | dict(changes))), state, exact=True)


def input_width(state: Mapping[str, Tensor], layer: str) -> int:
    """Return how many channels a layer takes; 0: the file does not have it."""
    weight = state.get(f"{layer}.weight")
    return 0 if weight is None else int(weight.shape[1])
