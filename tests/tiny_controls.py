"""Small random ControlNets of diffusers' real classes.

folder = make_control(family, tmp_path / "edges")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from brushwork.generate import Request
    from brushwork.values import Family

LAYERS: dict[str, dict[str, Any]] = {
    "sd3": {"num_layers": 2, "extra_conditioning_channels": 0},
    "flux": {"num_layers": 2, "num_single_layers": 2},
    "qwen_image": {"num_layers": 2},
    "sana": {"num_layers": 2},
    "z_image": {"control_layers_places": [0, 2], "control_refiner_layers_places": [0], "control_in_dim": 4},
}
"""Of networks of transformers: fewer than the denoiser has, see ``DEEP``."""
DEEP: dict[str, dict[str, Any]] = {
    "sd3": {"num_layers": 4},
    "flux": {"num_layers": 3, "num_single_layers": 4},
    "qwen_image": {"num_layers": 3},
    "sana": {"num_layers": 3},
    "z_image": {"n_layers": 4},
}
"""Changes of ``tiny_families.make`` that give denoisers with several layers."""


def control_of(family: Family, *, seed: int = 0, union: bool = False, **changes: Any) -> Any:
    """Return a ControlNet of a base's shape that has something to say: its zero convolutions are drawn anew."""
    import diffusers
    import torch

    from brushwork.controlnet.kinds import kind_of, unwarned

    denoiser: Any = family.denoiser
    made = getattr(diffusers, kind_of(family).classes[union])
    with torch.random.fork_rng(devices=[]), torch.no_grad(), unwarned():
        torch.manual_seed(seed)
        if family.name in LAYERS:
            shape = {key: value for key, value in denoiser.config.items() if not key.startswith("_")}
            known = made.__init__.__wrapped__.__code__.co_varnames
            shape = {key: value for key, value in (shape | LAYERS[family.name]).items() if key in known}
        else:
            widths = (4, *[8] * (family.pixels_per_latent.bit_length() - 1))
            shape = dict(
                diffusers.ControlNetModel.from_unet(denoiser, conditioning_embedding_out_channels=widths).config
            )
            shape = {key: value for key, value in shape.items() if not union or key != "mid_block_type"}
        network = made.from_config({**shape, **changes})
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.15)
    return network.eval()


def make_control(family: Family, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a ControlNet's folder."""
    control_of(family, seed=seed, **changes).save_pretrained(folder, safe_serialization=True)
    return folder


def drawn_beside(family: Family, requests: Sequence[Request]) -> list[Any]:
    """Return the pixels of requests that are drawn together, step by step."""
    import numpy as np

    from brushwork import generate
    from brushwork.stepwise import Drawing, advance

    drawings = [Drawing(family, generate.fitted(family, each)) for each in requests]
    while any(not each.done for each in drawings):
        advance(family, [each for each in drawings if not each.done])
    return [np.asarray(each.image(), int) for each in drawings]
