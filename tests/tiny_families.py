"""Small random-weight pipelines of every family's real classes, each written as a diffusers folder.

folder = make("flux", tmp_path / "flux")            # 32 px pictures
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiny import UNET, make_tokenizer, once
from tiny_encoders import BOTH, SECOND, WIDTH, clip, gemma, qwen3, qwen_tokenizer, shifted_vae, stages, t5, vae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make(name: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a complete pipeline folder; ``changes`` override settings of the denoiser."""

    def write(folder: Path) -> None:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pipeline = MAKERS[name](changes)
            _spread(pipeline)
        pipeline.save_pretrained(folder, safe_serialization=True)

    return once((name, seed, SECOND, changes), folder, write)


def kept(root: Path) -> Callable[[str], Path]:
    """Return what gives a family's folder below ``root``, made when it is first asked for."""

    def folder(name: str) -> Path:
        path = root / name
        return path if path.exists() else make(name, path)

    return folder


def _spread(pipeline: Any) -> None:
    """Draw anew what is initialised with zeros or ones, so that no layer is idle."""
    import torch

    with torch.no_grad():
        for part in pipeline.components.values():
            for parameter in part.parameters() if hasattr(part, "parameters") else ():
                if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                    parameter.add_(0.1 * torch.randn(parameter.shape))


def _sdxl(changes: dict[str, Any]) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    settings: dict[str, Any] = {
        **UNET,
        "attention_head_dim": (2, 4),
        "cross_attention_dim": BOTH,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + SECOND,
    }
    return StableDiffusionXLPipeline(
        unet=UNet2DConditionModel(**(settings | changes)).eval(),
        vae=vae(scaling_factor=0.13025),
        text_encoder=clip(projection=False),
        text_encoder_2=clip(SECOND, projection=True),
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def _sd3(changes: dict[str, Any]) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    settings: dict[str, Any] = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "caption_projection_dim": 16,
        "joint_attention_dim": BOTH,
        "pooled_projection_dim": BOTH,
        "pos_embed_max_size": 8,
        "qk_norm": "rms_norm",
        "dual_attention_layers": (0,),
    }
    encoder, tokenizer = t5(BOTH)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**(settings | changes)).eval(),
        vae=shifted_vae(),
        text_encoder=clip(projection=True),
        text_encoder_2=clip(SECOND, projection=True),
        text_encoder_3=encoder,
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        tokenizer_3=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _flux(changes: dict[str, Any]) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    settings: dict[str, Any] = {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": WIDTH,
        "pooled_projection_dim": WIDTH,
        "guidance_embeds": True,
        "axes_dims_rope": (2, 2, 4),
    }
    encoder, tokenizer = t5(WIDTH)
    return FluxPipeline(
        transformer=FluxTransformer2DModel(**(settings | changes)).eval(),
        vae=shifted_vae(),
        text_encoder=clip(projection=False),
        text_encoder_2=encoder,
        tokenizer=make_tokenizer(),
        tokenizer_2=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=4096
        ),
    )


def _flux2(changes: dict[str, Any]) -> Any:
    import torch
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )

    settings: dict[str, Any] = {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 48,
        "timestep_guidance_channels": 16,
        "axes_dims_rope": (2, 2, 2, 2),
        "guidance_embeds": False,
    }
    picture = AutoencoderKLFlux2(**stages(), latent_channels=4).eval()
    picture.bn.running_mean.copy_(torch.randn(16))
    picture.bn.running_var.copy_(torch.rand(16) + 0.5)
    encoder, tokenizer = qwen3(27, "Qwen3ForCausalLM")
    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(**(settings | changes)).eval(),
        vae=picture,
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )


def _sana(changes: dict[str, Any]) -> Any:
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    settings: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 1,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": 16,
        "mlp_ratio": 1.0,
        "sample_size": 8,
        "patch_size": 1,
    }
    blocks = {f"{side}_block_out_channels": (8, 8, 16) for side in ("encoder", "decoder")}
    blocks |= {f"{side}_layers_per_block": (1, 1, 1) for side in ("encoder", "decoder")}
    blocks |= {f"{side}_qkv_multiscales": ((), (), (5,)) for side in ("encoder", "decoder")}
    blocks |= {f"{side}_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock") for side in ("encoder", "decoder")}
    encoder, tokenizer = gemma()
    return SanaPipeline(
        transformer=SanaTransformer2DModel(**(settings | changes)).eval(),
        vae=AutoencoderDC(latent_channels=4, attention_head_dim=8, scaling_factor=0.41407, **blocks).eval(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )


def _qwen_image(changes: dict[str, Any]) -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    settings: dict[str, Any] = {
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (2, 2, 4),
    }
    tokenizer = qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        },
    )  # fmt: skip
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(**(settings | changes)).eval(),
        vae=AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 2.0, 0.7, 1.0],
        ).eval(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
    )


def _z_image(changes: dict[str, Any]) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    settings: dict[str, Any] = {
        "in_channels": 4,
        "dim": 32,
        "n_layers": 1,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 16,
        "axes_dims": [4, 6, 6],
        "axes_lens": [1024, 128, 128],
    }
    encoder, tokenizer = qwen3(2, "Qwen3Model")
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(**(settings | changes)).eval(),
        vae=shifted_vae(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux": _flux,
    "flux2": _flux2,
    "sana": _sana,
    "qwen_image": _qwen_image,
    "z_image": _z_image,
}
