"""The real architectures, by the configs that they were published with, without their weights (on the meta device).

parts = sdxl()                      # {"unet": ..., "text_encoder": ..., "text_encoder_2": ...}

Only what differs from the classes' own defaults is written out.
"""

from __future__ import annotations

import functools
from typing import Any


def _meta(make: Any) -> Any:
    @functools.cache
    def made() -> dict[str, Any]:
        import torch

        with torch.device("meta"):
            parts: dict[str, Any] = make()
        return parts

    return made


def _clip(width: int, layers: int, *, act: str = "quick_gelu", projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act=act,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu")
    )


@_meta
def sd15() -> dict[str, Any]:
    """Return Stable Diffusion 1.5."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return {"unet": unet, "text_encoder": _clip(768, 12)}


@_meta
def sd2() -> dict[str, Any]:
    """Return Stable Diffusion 2.1-base."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True
    )
    return {"unet": unet, "text_encoder": _clip(1024, 23, act="gelu")}


@_meta
def sdxl() -> dict[str, Any]:
    """Return Stable Diffusion XL 1.0 base."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=128,
        cross_attention_dim=2048,
        attention_head_dim=[5, 10, 20],
        use_linear_projection=True,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return {
        "unet": unet,
        "text_encoder": _clip(768, 12),
        "text_encoder_2": _clip(1280, 32, act="gelu", projected=True),
    }


@_meta
def sd3() -> dict[str, Any]:
    """Return Stable Diffusion 3 medium."""
    from diffusers import SD3Transformer2DModel

    transformer = SD3Transformer2DModel(
        sample_size=128,
        num_layers=24,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        out_channels=16,
        pos_embed_max_size=192,
    )
    return {
        "transformer": transformer,
        "text_encoder": _clip(768, 12, projected=True),
        "text_encoder_2": _clip(1280, 32, act="gelu", projected=True),
        "text_encoder_3": _t5(),
    }


@_meta
def flux() -> dict[str, Any]:
    """Return FLUX.1-dev."""
    from diffusers import FluxTransformer2DModel

    return {
        "transformer": FluxTransformer2DModel(guidance_embeds=True),
        "text_encoder": _clip(768, 12),
        "text_encoder_2": _t5(),
    }
