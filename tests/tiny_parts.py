"""Denoisers and text encoders of the real classes with random weights, a few thousand numbers each.

parts = PARTS["sdxl"]()                             # {"unet": ..., "text_encoder": ..., "text_encoder_2": ...}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiny import UNET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn


def tiny_unet(**changes: Any) -> nn.Module:
    from diffusers import UNet2DConditionModel

    module: nn.Module = UNet2DConditionModel(**(UNET | {"cross_attention_dim": 16} | changes))
    return module


def tiny_clip(*, projected: bool = False, width: int = 16) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, projection_dim=width
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def tiny_flux() -> nn.Module:
    from diffusers import FluxTransformer2DModel

    module: nn.Module = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 0),
    )
    return module


def tiny_sd3() -> nn.Module:
    from diffusers import SD3Transformer2DModel

    module: nn.Module = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=8,
        pooled_projection_dim=16,
        dual_attention_layers=(0,),
    )
    return module


XL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 40}
PARTS: dict[str, Callable[[], dict[str, nn.Module]]] = {
    "sd": lambda: {"unet": tiny_unet(), "text_encoder": tiny_clip()},
    "sdxl": lambda: {
        "unet": tiny_unet(**XL),
        "text_encoder": tiny_clip(),
        "text_encoder_2": tiny_clip(projected=True),
    },
    "flux": lambda: {"transformer": tiny_flux(), "text_encoder": tiny_clip()},
    "sd3": lambda: {"transformer": tiny_sd3(), "text_encoder": tiny_clip(projected=True)},
}


def make_lora(base: Path, folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Write a LoRA (or a relative) with random weights as brushwork's own method writes it; return its file."""
    import torch

    from brushwork import families
    from brushwork.methods import lora

    family = families.load(str(base))
    method = lora.Config(**settings).build()
    generator = torch.Generator().manual_seed(seed)
    for group in method.attach(family, seed):
        for parameter in group.parameters.values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    folder.mkdir(parents=True)
    method.save(family, folder)
    return folder / method.artefact
