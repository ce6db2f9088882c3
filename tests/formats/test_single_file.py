"""A single file of Stable Diffusion XL: diffusers reads it back to the same weights; SD 1 and 2 in ``test_export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import architectures
import pytest
import torch
from safetensors.torch import save_file
from tiny import make_tokenizer
from tiny_parts import XL, tiny_clip, tiny_sd3, tiny_unet

from brushwork.errors import ModelError
from brushwork.exports import whole
from brushwork.formats import single_file

if TYPE_CHECKING:
    from pathlib import Path


def make_xl() -> Any:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=32),
        text_encoder=tiny_clip(),
        text_encoder_2=tiny_clip(projected=True, width=24),  # another width: by that diffusers tells them apart
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        unet=tiny_unet(cross_attention_dim=40, **XL),
        scheduler=EulerDiscreteScheduler(),
    )


def test_diffusers_reads_an_sdxl_file_back_to_the_same_weights(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = make_xl()
    names = ("unet", "vae", "text_encoder", "text_encoder_2")
    tensors = single_file.write({name: getattr(pipeline, name) for name in names})
    assert not {"v_pred", "ztsnr"} & set(tensors)
    save_file(tensors, tmp_path / "xl.safetensors", metadata={"format": "pt"})
    whole.save_configs(pipeline, tmp_path / "configs")
    back = StableDiffusionXLPipeline.from_single_file(
        str(tmp_path / "xl.safetensors"), config=str(tmp_path / "configs")
    )
    for name in names:
        ours, theirs = getattr(pipeline, name).state_dict(), getattr(back, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_an_sdxl_that_predicts_v_says_so_by_the_marks_that_uis_look_for() -> None:
    pipeline = make_xl()
    parts = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
    assert {"v_pred", "ztsnr"} <= set(single_file.write(parts, prediction="v_prediction", zero_snr=True))


@pytest.mark.parametrize(("make", "layout"), [("sd15", "sd1"), ("sd2", "sd2"), ("sdxl", "sdxl")])
def test_the_layout_follows_from_the_architecture(make: str, layout: str) -> None:
    assert single_file.version(getattr(architectures, make)()) == layout


def test_a_transformer_is_no_single_file() -> None:
    with pytest.raises(ModelError, match="this is a SD3Transformer2DModel"):
        single_file.version({"transformer": tiny_sd3()})
