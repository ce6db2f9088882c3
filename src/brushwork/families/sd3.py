"""Stable Diffusion 3 and 3.5: two CLIP encoders and T5 (which may be left out), an MMDiT, a rectified flow.

Esser et al. 2024, arXiv:2403.03206: timesteps are drawn logit-normally, then shifted as the scheduler says (3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from brushwork import components, flow
from brushwork.controlnet import layers
from brushwork.controlnet import sd3 as control
from brushwork.settings import Sampling
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described

PIPELINE = "StableDiffusion3Pipeline"
KEY = "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"
CLASSES = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "text_encoder_3": "T5EncoderModel",
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
    "tokenizer_3": "T5TokenizerFast",
}
T5_TOKENS = 256
"""The pipeline's default."""


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    if described.is_file:
        return KEY in described.keys
    return bool(described.index.get("_class_name") == PIPELINE)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> StableDiffusion3:
    """Load the components by their classes; see ``brushwork.families.load``."""
    if described.is_file:
        return StableDiffusion3(components.from_file(described, PIPELINE, CLASSES, dtype), device)
    return StableDiffusion3(components.load(described, CLASSES, dtype), device)


class StableDiffusion3(components.Assembly):
    """The modules of one Stable Diffusion 3 model."""

    name = "sd3"
    pipeline_name = PIPELINE
    sampling = Sampling("Euler", 28, 7.0)
    control = control.KIND

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        super().__init__(parts, device)
        config = self.denoiser.config
        self.flow = flow.of_scheduler(
            self.scheduler_config, patch=config.patch_size, sampling="logit_normal", even=False
        )
        self.resolution = config.sample_size * self.pixels_per_latent
        self.size_limit = config.pos_embed_max_size * self.size_multiple

    def max_tokens(self, encoder: str) -> int:
        """Return 77 of the CLIP encoders and 256 of T5."""
        return T5_TOKENS if encoder == "text_encoder_3" else super().max_tokens(encoder)

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return (B, 77 + 256, width): CLIP's states filled up with zeros, then T5's; and both pooled texts."""
        import torch
        from torch.nn.functional import pad

        texts, config = list(captions), self.denoiser.config
        said = [
            components.clip_states(self.text_encoders[name], self.tokenizers[name], texts, self.device)
            for name in ("text_encoder", "text_encoder_2")
        ]
        clip = torch.cat([each.hidden_states[-2] for each in said], dim=-1)
        if "text_encoder_3" in self.text_encoders:
            tokens = components.padded_tokens(self.tokenizers["text_encoder_3"], texts, T5_TOKENS)
            t5 = self.text_encoders["text_encoder_3"](tokens.input_ids.to(self.device))[0]
        else:
            t5 = clip.new_zeros(len(texts), T5_TOKENS, config.joint_attention_dim)
        states = torch.cat([pad(clip, (0, t5.shape[-1] - clip.shape[-1])), t5], dim=-2)
        return Conditioning({"states": states, "pooled": torch.cat([each[0] for each in said], dim=-1)})

    def shown(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return what the transformer is given, and a ControlNet too."""
        told = conditioning.tensors
        return {
            "hidden_states": latents,
            "timestep": timesteps,
            "encoder_hidden_states": told["states"],
            "pooled_projections": told["pooled"],
        }

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the transformer."""
        blocks = len(self.denoiser.transformer_blocks)
        predicted = self.denoiser(
            **self.shown(latents, timesteps, conditioning),
            block_controlnet_hidden_states=layers.added(conditioning, blocks, {"block": layers.by_share}),
            return_dict=False,
        )
        return cast("Tensor", predicted[0])
