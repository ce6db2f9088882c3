"""Qwen-Image: Qwen2.5-VL's states behind a fixed instruction, a video autoencoder at one frame, packed patches, a flow.

Wu et al. 2025, arXiv:2508.02324. Guidance brings every token back to the length of the prediction with the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from brushwork import components, flow
from brushwork.controlnet import layers
from brushwork.controlnet import qwen_image as control
from brushwork.controlnet.kinds import packed
from brushwork.settings import Sampling
from brushwork.values import Conditioning, Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described

PIPELINE = "QwenImagePipeline"
CLASSES = {
    "transformer": "QwenImageTransformer2DModel",
    "vae": "AutoencoderKLQwenImage",
    "text_encoder": "Qwen2_5_VLForConditionalGeneration",
    "tokenizer": "Qwen2Tokenizer",
}
TOKENS = 512
"""The pipeline's default for drawing."""
INSTRUCTION = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
INSTRUCTION_TOKENS = 34
"""So many states before the prompt's are left out."""


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    return bool(described.index.get("_class_name") == PIPELINE)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> QwenImage:
    """Load the components by their classes; see ``brushwork.families.load``."""
    return QwenImage(components.load(described, CLASSES, dtype), device)


class QwenImage(components.Assembly):
    """The modules of one Qwen-Image model."""

    name = "qwen_image"
    pipeline_name = PIPELINE
    guidance = "renormed"
    control = control.KIND
    sampling = Sampling("Euler", 50, 4.0)

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        super().__init__(parts, device)
        self.flow = flow.of_scheduler(self.scheduler_config, patch=2)

    def max_tokens(self, encoder: str) -> int:  # noqa: ARG002  (there is one)
        """Return 512."""
        return TOKENS

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return the last states behind the instruction, (B, 512, width), and which of them there are."""
        import torch

        tokenizer, encoder = self.tokenizers["text_encoder"], self.text_encoders["text_encoder"]
        states, masks = [], []
        for caption in captions:
            tokens = tokenizer([INSTRUCTION.format(caption)], return_tensors="pt").to(self.device)
            said = encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True)
            own = said.hidden_states[-1][0, INSTRUCTION_TOKENS:][:TOKENS]
            lacking = TOKENS - len(own)
            states.append(torch.nn.functional.pad(own, (0, 0, 0, lacking)))
            masks.append(torch.tensor([1] * len(own) + [0] * lacking, device=own.device))
        return Conditioning({"states": torch.stack(states), "mask": torch.stack(masks)})

    def encode_images(self, pixels: Tensor) -> Moments:
        """Return the posterior of pixels (B, 3, H, W), which are a video of one frame."""
        posterior = self.vae.encode(pixels[:, :, None]).latent_dist
        return Moments(posterior.mean[:, :, 0], posterior.std[:, :, 0])

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, deviation = (
            like.new_tensor(each).view(1, -1, 1, 1) for each in (config.latents_mean, config.latents_std)
        )
        return mean, deviation

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Normalise by channel."""
        mean, deviation = self._statistics(latents)
        return (latents - mean) / deviation

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W)."""
        mean, deviation = self._statistics(latents)
        whole = (latents * deviation + mean)[:, :, None]
        return cast("Tensor", self.vae.decode(whole, return_dict=False)[0][:, :, 0])

    def shown(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> dict[str, Any]:
        """Return what the transformer is given, and a ControlNet too: as many text tokens as the longest text has."""
        told, (height, width) = conditioning.tensors, latents.shape[-2:]
        longest = max(int(told["mask"].sum(1).max()), 1)
        mask = told["mask"][:, :longest].bool()
        return {
            "hidden_states": packed(latents),
            "timestep": timesteps.to(latents.dtype) / flow.TIMESTEPS,
            "encoder_hidden_states": told["states"][:, :longest],
            "encoder_hidden_states_mask": None if bool(mask.all()) else mask,
            "img_shapes": [[(1, height // 2, width // 2)]] * len(latents),
        }

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Pack, run the transformer, unpack."""
        import torch

        blocks = len(self.denoiser.transformer_blocks)
        predicted = self.denoiser(
            **self.shown(latents, timesteps, conditioning),
            controlnet_block_samples=layers.added(conditioning, blocks, {"block": layers.evenly}),
            return_dict=False,
        )
        patches = cast("Tensor", predicted[0]).transpose(1, 2)
        return torch.nn.functional.pixel_shuffle(patches.unflatten(2, [side // 2 for side in latents.shape[-2:]]), 2)
