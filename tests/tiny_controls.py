"""Small random ControlNets of diffusers' real class.

folder = make_control(family, tmp_path / "edges")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.values import Family


def control_of(family: Family, *, seed: int = 0, **changes: Any) -> Any:
    """Return a ControlNet of a base's shape that has something to say: its zero convolutions are drawn anew."""
    import torch
    from diffusers import ControlNetModel

    denoiser: Any = family.denoiser
    widths = (4, *[8] * (family.pixels_per_latent.bit_length() - 1))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        shape = ControlNetModel.from_unet(denoiser, conditioning_embedding_out_channels=widths).config
        network = ControlNetModel.from_config({**shape, **changes})
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.15)
    return network.eval()


def make_control(family: Family, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a ControlNet's folder."""
    control_of(family, seed=seed, **changes).save_pretrained(folder, safe_serialization=True)
    return folder
