"""Sana: Gemma 2 with an instruction before the caption, an autoencoder of 32 px a latent, linear attention, a flow.

Xie et al. 2024, arXiv:2410.10629; the instruction and which states are kept: section 3.1 and the pipeline.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from brushwork import components, flow
from brushwork.controlnet import layers
from brushwork.controlnet import sana as control
from brushwork.settings import Sampling
from brushwork.values import Conditioning, Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described

PIPELINE = "SanaPipeline"
CLASSES = {
    "transformer": "SanaTransformer2DModel",
    "vae": "AutoencoderDC",
    "text_encoder": "Gemma2Model",
    "tokenizer": "GemmaTokenizerFast",
}
TOKENS = 300


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    return bool(described.index.get("_class_name") == PIPELINE)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Sana:
    """Load the components by their classes; see ``brushwork.families.load``."""
    return Sana(components.load(described, CLASSES, dtype), device)


class Sana(components.Assembly):
    """The modules of one Sana model."""

    name = "sana"
    pipeline_name = PIPELINE
    patch = 1
    control = control.KIND
    sampling = Sampling("DPM++ 2M", 20, 4.5)

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        # The one AutoencoderDC: its blocks are named otherwise than other autoencoders'.
        super().__init__(parts, device)
        config = self.denoiser.config
        self.flow = flow.of_scheduler(self.scheduler_config, patch=config.patch_size)
        self.resolution = config.sample_size * self.pixels_per_latent
        self.tokenizers["text_encoder"].padding_side = "right"

    def max_tokens(self, encoder: str) -> int:  # noqa: ARG002  (there is one)
        """Return 300."""
        return TOKENS

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return states (B, 300, width) and their mask: the first, and the last 299 behind the instruction.

        An empty text is told without the instruction, as the pipeline tells what is no prompt.
        """
        said = "\n".join(instruction())
        return self._encode(captions, said)

    def encode_negative(self, captions: Sequence[str]) -> Conditioning:
        """Return the same without the instruction."""
        return self._encode(captions, "")

    def _encode(self, captions: Sequence[str], said: str) -> Conditioning:
        import torch

        rows = [self._encode_one(caption, said if caption.strip() else "") for caption in captions]
        return Conditioning({name: torch.cat([row[name] for row in rows]) for name in rows[0]})

    def _encode_one(self, caption: str, said: str) -> dict[str, Tensor]:
        tokenizer, encoder = self.tokenizers["text_encoder"], self.text_encoders["text_encoder"]
        length = len(tokenizer.encode(said)) + TOKENS - 2 if said else TOKENS
        tokens = components.padded_tokens(tokenizer, [said + caption.lower().strip()], length).to(self.device)
        states = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        kept = [0, *range(-TOKENS + 1, 0)]
        return {"states": states[:, kept], "mask": tokens.attention_mask[:, kept]}

    def encode_images(self, pixels: Tensor) -> Moments:
        """Return the latents; this autoencoder has no deviation."""
        import torch

        latents = self.vae.encode(pixels).latent
        return Moments(latents, torch.zeros_like(latents))

    def shown(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return what the transformer is given, and a ControlNet too."""
        told = conditioning.tensors
        return {
            "hidden_states": latents,
            "encoder_hidden_states": told["states"],
            "encoder_attention_mask": told["mask"],
            "timestep": timesteps * self.denoiser.config.timestep_scale,
        }

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the transformer."""
        predicted = self.denoiser(
            **self.shown(latents, timesteps, conditioning),
            controlnet_block_samples=layers.every(conditioning) or None,
            return_dict=False,
        )[0]
        # Some variants predict their own variance besides.
        return cast("Tensor", predicted[:, : self.latent_channels])


def instruction() -> list[str]:
    """Return what Sana's pipeline says to Gemma before the prompt."""
    from diffusers import SanaPipeline

    return list(inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default)
