"""Z-Image: the last states but one of Qwen3, as many as the text has; a single-stream transformer that runs backwards.

The denoiser is told 1 - sigma and says x0 - noise. The pipeline's ``guidance_scale`` g counts from the prediction with
the prompt, so it is g + 1 here as in every other family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import components, flow
from brushwork.settings import Sampling
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described

PIPELINE = "ZImagePipeline"
CLASSES = {
    "transformer": "ZImageTransformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "Qwen3Model|Qwen3ForCausalLM",
    "tokenizer": "Qwen2TokenizerFast",
}
TOKENS = 512


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    return bool(described.index.get("_class_name") == PIPELINE)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> ZImage:
    """Load the components by their classes; see ``brushwork.families.load``."""
    return ZImage(components.load(described, CLASSES, dtype), device)


class ZImage(components.Assembly):
    """The modules of one Z-Image model."""

    name = "z_image"
    pipeline_name = PIPELINE
    sampling = Sampling("Euler", 50, 6.0)

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        super().__init__(parts, device)
        self.flow = flow.of_scheduler(self.scheduler_config, patch=2)
        # Each axis has a table of places, which ends; the first is the text's.
        self.size_limit = min(self.denoiser.config.axes_lens[1:]) * self.size_multiple

    def max_tokens(self, encoder: str) -> int:  # noqa: ARG002  (there is one)
        """Return 512."""
        return TOKENS

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return states (B, 512, width) and which of them there are."""
        tokenizer, encoder = self.tokenizers["text_encoder"], self.text_encoders["text_encoder"]
        texts = components.as_chats(tokenizer, captions, thinking=True)
        tokens = components.padded_tokens(tokenizer, texts, TOKENS).to(self.device)
        mask = tokens.attention_mask.bool()
        said = encoder(input_ids=tokens.input_ids, attention_mask=mask, output_hidden_states=True)
        return Conditioning({"states": said.hidden_states[-2], "mask": tokens.attention_mask})

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the transformer on lists of pictures and texts, each text as long as it is."""
        import torch

        told = conditioning.tensors
        texts = [states[mask.bool()] for states, mask in zip(told["states"], told["mask"], strict=True)]
        pictures = list(latents[:, :, None].unbind(0))
        said = self.denoiser(pictures, 1 - timesteps.to(latents.dtype) / flow.TIMESTEPS, texts, return_dict=False)[0]
        return -torch.stack(list(said)).squeeze(2)
