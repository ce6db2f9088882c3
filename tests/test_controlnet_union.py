"""ControlNets of SDXL for several sorts of maps: the picture that diffusers' pipeline draws, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tiny_families
from PIL import Image
from tiny_controls import make_control

from brushwork import families, generate, samplers
from brushwork.controlnet import Control, networks
from brushwork.errors import ConfigError, ModelError
from brushwork.generate import Request

if TYPE_CHECKING:
    from pathlib import Path

LAST_BITS = 1
SMALL = {"num_control_type": 3, "num_trans_channel": 8, "num_proj_channel": 8, "num_trans_head": 2}


def test_a_union_is_told_which_sort_of_map_it_sees_as_diffusers_tells_it(tmp_path: Path) -> None:
    import diffusers
    import torch

    family = families.load(str(tiny_families.make("sdxl", tmp_path / "sdxl")))
    folder = make_control(family, tmp_path / "union", union=True, **SMALL)
    network = networks.load(folder, family)
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)

    def drawn(**settings: object) -> np.ndarray:  # type: ignore[type-arg]
        controls = (Control(network, image, 0.7, **settings),)  # type: ignore[arg-type]
        request = Request("a cat", seed=3, steps=5, guidance_scale=5.0, sampler="DDIM", controls=controls)
        return np.asarray(next(generate.draw(family, [request])).image).astype(int)

    parts = {**family.pipeline().components, "controlnet": network.module}
    theirs = diffusers.StableDiffusionXLControlNetUnionPipeline(**parts, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = samplers.build(samplers.resolve("DDIM"), family.scheduler_config)
    (other,) = theirs(
        "a cat", control_image=[image], control_mode=[2], num_inference_steps=5, guidance_scale=5.0,
        controlnet_conditioning_scale=0.7, generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    assert np.abs(drawn(union=2) - np.asarray(other).astype(int)).max() <= LAST_BITS
    assert not np.array_equal(drawn(union=2), drawn(union=0))
    assert not np.array_equal(drawn(union=2), drawn(union=2, mode="guess"))
    with pytest.raises(ConfigError, match="a union of 3 sorts of maps; say which"):
        drawn()
    with pytest.raises(ModelError, match="is a union, whose shape its file does not say"):
        networks.load(folder / networks.WEIGHTS[0], family)
