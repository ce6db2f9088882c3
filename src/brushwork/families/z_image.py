"""Z-Image: the last states but one of Qwen3, as many as the text has; a single-stream transformer that runs backwards.

The denoiser is told 1 - sigma and says x0 - noise. The pipeline's ``guidance_scale`` g counts from the prediction with
the prompt, so it is g + 1 here as in every other family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import components, flow
from brushwork.controlnet import z_image as control
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
GROUP = 32
"""Pictures and texts are filled up to multiples of so many tokens."""


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
    control = control.KIND
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

    def shown(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return what the transformer is given, and a ControlNet too: lists of pictures and texts of any length."""
        told = conditioning.tensors
        return {
            "x": list(latents[:, :, None].unbind(0)),
            "t": 1 - timesteps.to(latents.dtype) / flow.TIMESTEPS,
            "cap_feats": [states[mask.bool()] for states, mask in zip(told["states"], told["mask"], strict=True)],
        }

    def tokens(self, latents: Tensor, text: int = TOKENS) -> int:
        """Return how many tokens a picture and a text become, each filled up to whole groups."""
        patches = latents.shape[-2] // self.patch * (latents.shape[-1] // self.patch)
        return sum(-(-each // GROUP) * GROUP for each in (patches, text))

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the transformer."""
        import torch

        shown = self.shown(latents, timesteps, conditioning)
        length = self.tokens(latents, max(map(len, shown["cap_feats"])))
        added = control.added(conditioning, len(self.denoiser.layers), length)
        said = self.denoiser(**shown, controlnet_block_samples=added, return_dict=False)[0]
        return -torch.stack(list(said)).squeeze(2)
