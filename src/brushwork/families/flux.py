"""FLUX.1 dev and schnell: CLIP's pooled text and T5's states, latents in packed 2 x 2 patches, a rectified flow.

dev is told its guidance as a number (guidance distillation, Meng et al. 2023, arXiv:2210.03142); schnell has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from brushwork import components, flow
from brushwork.controlnet import flux as control
from brushwork.controlnet import layers
from brushwork.controlnet.flux import GUIDANCE
from brushwork.controlnet.kinds import packed
from brushwork.settings import Sampling
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described

PIPELINE = "FluxPipeline"
KEYS = (
    "double_blocks.0.img_attn.norm.key_norm.scale",
    "model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale",
)
CLASSES = {
    "transformer": "FluxTransformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "T5TokenizerFast",
}
T5_TOKENS = 512
"""The pipeline's default."""


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    if described.is_file:
        return any(key in described.keys for key in KEYS) and not any(
            "single_stream_mod" in key for key in described.keys
        )
    return bool(described.index.get("_class_name") == PIPELINE)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Flux:
    """Load the components by their classes; see ``brushwork.families.load``."""
    if described.is_file:
        return Flux(components.from_file(described, PIPELINE, CLASSES, dtype), device)
    return Flux(components.load(described, CLASSES, dtype), device)


class Flux(components.Assembly):
    """The modules of one FLUX.1 model."""

    name = "flux"
    pipeline_name = PIPELINE
    control = control.KIND

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        super().__init__(parts, device)
        self.flow = flow.of_scheduler(self.scheduler_config, patch=2)
        embedded = bool(self.denoiser.config.guidance_embeds)
        self.guidance = "embedded" if embedded else "free"
        self.sampling = Sampling("Euler", 28, GUIDANCE) if embedded else Sampling("Euler", 4, 1.0)

    def max_tokens(self, encoder: str) -> int:
        """Return 77 of CLIP and 512 of T5."""
        return T5_TOKENS if encoder == "text_encoder_2" else super().max_tokens(encoder)

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return T5's states (B, 512, width) and CLIP's pooled text."""
        texts = list(captions)
        clip = components.clip_states(
            self.text_encoders["text_encoder"], self.tokenizers["text_encoder"], texts, self.device
        )
        tokens = components.padded_tokens(self.tokenizers["text_encoder_2"], texts, T5_TOKENS)
        states = self.text_encoders["text_encoder_2"](tokens.input_ids.to(self.device))[0]
        return Conditioning({"states": states, "pooled": clip.pooler_output})

    def shown(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return what the transformer is given, and a ControlNet too: packed latents with their places."""
        told, size = conditioning.tensors, latents.shape[-2:]
        guidance = None
        if self.guidance == "embedded":
            guidance = told.get("guidance")
            if guidance is None:
                guidance = latents.new_full((len(latents),), GUIDANCE)
        return {
            "hidden_states": packed(latents),
            "timestep": timesteps.to(latents.dtype) / flow.TIMESTEPS,
            "guidance": guidance,
            "pooled_projections": told["pooled"],
            "encoder_hidden_states": told["states"],
            "txt_ids": latents.new_zeros(told["states"].shape[1], 3),
            "img_ids": places(size[0] // 2, size[1] // 2, latents),
        }

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Pack, run the transformer, unpack."""
        double, single = (
            len(each) for each in (self.denoiser.transformer_blocks, self.denoiser.single_transformer_blocks)
        )
        predicted = self.denoiser(
            **self.shown(latents, timesteps, conditioning),
            controlnet_block_samples=layers.added(
                conditioning, double, {"block": layers.evenly, "turn": layers.in_turn}
            ),
            controlnet_single_block_samples=layers.added(conditioning, single, {"single": layers.evenly}),
            return_dict=False,
        )
        return unpack(cast("Tensor", predicted[0]), *latents.shape[-2:])


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Undo ``packed`` to (B, C, H, W)."""
    import torch

    patches = tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2))
    return torch.nn.functional.pixel_shuffle(patches, 2)


def places(rows: int, columns: int, like: Tensor) -> Tensor:
    """Return each token's place, (rows columns, 3): 0, its row, its column."""
    import torch

    grid = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns))
    return grid.to(like.device, like.dtype)
