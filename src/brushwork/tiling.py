"""Pictures that repeat without a seam: every convolution reads beyond an edge what is at the opposite one.

    with circular(family.denoiser, family.vae):
        ...

A torus has no edge, so what is drawn is the same wherever it is cut. Only an attribute of the modules is changed, and
changed back: no weight is touched. Diffusers' encoder pads its strided convolutions by hand, with zeros, at the right
and the bottom; of a picture to start from, a latent there knows nothing of the other side.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from brushwork.values import Family


def _padded(*parts: nn.Module) -> list[Any]:
    """Return the convolutions over pixels that read beyond the edges."""
    from torch import nn

    return [
        module
        for part in parts
        for module in part.modules()
        if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str) and any(module.padding)
    ]


@contextlib.contextmanager
def circular(*parts: nn.Module) -> Iterator[None]:
    """Pad circularly; afterwards everything is as it was, also after an error."""
    before = [(module, module.padding_mode) for module in _padded(*parts)]
    try:
        for module, _ in before:
            module.padding_mode = "circular"
        yield
    finally:
        for module, mode in before:
            module.padding_mode = mode


def check(family: Family) -> None:
    """Refuse a family whose denoiser has no edges to join.

    Raises:
        ConfigError: It is a transformer, which knows places by their numbers.
    """
    if not _padded(family.denoiser):
        message = (
            f"tiling: {family.name} is a transformer without convolutions to join at the edges; leave tiling out, or "
            f"use a base with a UNet"
        )
        raise ConfigError(message)
