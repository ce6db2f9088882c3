"""Stable Diffusion XL: two CLIP text encoders, a pooled text, and six numbers about size and crop beside the noise.

Podell et al. 2023, arXiv:2307.01952, section 2.2: the denoiser is told how large the picture was before it was resized
and where it was cropped, so small and badly cropped pictures can be trained on without being imitated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from brushwork import components, mask_channels
from brushwork.controlnet import unet
from brushwork.errors import ModelError
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described
    from brushwork.values import Prediction

PIPELINE, INPAINTING = "StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"
KEYS = (
    "conditioner.embedders.1.model.text_projection",
    "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
)
"""Of a single file; the refiner has but one embedder."""
CLASSES = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
}


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    if described.is_file:
        return all(key in described.keys for key in KEYS)
    return bool(described.index.get("_class_name") in (PIPELINE, INPAINTING))


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> StableDiffusionXL:
    """Load the components by their classes; see ``brushwork.families.load``.

    Raises:
        ModelError: A part is missing, or the base is a relative of another kind.
    """
    if described.is_file:
        parts = components.from_file(described, PIPELINE, CLASSES, dtype)
    else:
        parts = components.load(described, CLASSES, dtype)
    if parts["vae"].config.latents_mean is not None:
        message = f"base: {described.asked!r} normalises its latents by channel, which Stable Diffusion XL does not."
        raise ModelError(message)
    return StableDiffusionXL(parts, device, zeros=described.index.get("force_zeros_for_empty_prompt", True))


class StableDiffusionXL(components.Assembly):
    """The modules of one Stable Diffusion XL model."""

    name = "sdxl"
    denoiser_name = "unet"
    reads_geometry = True
    patch = 1
    control = unet.KIND

    def __init__(self, parts: dict[str, Any], device: str, *, zeros: bool) -> None:
        from diffusers import DDPMScheduler

        super().__init__(parts, device)
        self.zeros = zeros
        self.pipeline_settings = {"add_watermarker": False, "force_zeros_for_empty_prompt": zeros}
        self.prediction = cast("Prediction", self.scheduler_config.get("prediction_type", "epsilon"))
        self.alphas_cumprod = DDPMScheduler.from_config(self.scheduler_config).alphas_cumprod.double()
        self.resolution = int(self.denoiser.config.sample_size) * self.pixels_per_latent
        self.inference_only = mask_channels.UNTRAINED if mask_channels.sees_masks(self) else None
        self.pipeline_name = INPAINTING if self.inference_only else PIPELINE

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return both encoders' last states but one, (B, 77, width 1 + 2), and the second's pooled text."""
        import torch

        said = [
            components.clip_states(encoder, self.tokenizers[name], list(captions), self.device)
            for name, encoder in self.text_encoders.items()
        ]
        states = torch.cat([each.hidden_states[-2] for each in said], dim=-1)
        return Conditioning({"states": states, "pooled": said[-1][0]})

    def encode_negative(self, captions: Sequence[str]) -> Conditioning:
        """Return zeros for empty texts, where the base was trained with them (``force_zeros_for_empty_prompt``)."""
        import torch

        encoded = self.encode_text(captions)
        if not self.zeros:
            return encoded
        said = torch.tensor([bool(each) for each in captions], device=encoded.tensors["pooled"].device)
        return Conditioning(
            {
                name: each * said.view(-1, *[1] * (each.ndim - 1)).to(each.dtype)
                for name, each in encoded.tensors.items()
            }
        )

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the UNet; a picture whose geometry nobody tells was neither resized nor cropped."""
        predicted = self.denoiser(
            mask_channels.widened(self.denoiser, latents, conditioning),
            timesteps,
            encoder_hidden_states=conditioning.tensors["states"],
            added_cond_kwargs=self.told_beside(latents, conditioning),
            **unet.added(conditioning),
            return_dict=False,
        )
        return cast("Tensor", predicted[0])

    def told_beside(self, latents: Tensor, conditioning: Conditioning) -> dict[str, Tensor]:
        """Return the pooled text and the geometry, for the UNet and its ControlNets."""
        told = conditioning.tensors
        geometry = told.get("geometry")
        if geometry is None:
            height, width = (side * self.pixels_per_latent for side in latents.shape[-2:])
            geometry = latents.new_tensor([[height, width, 0, 0, height, width]]).expand(len(latents), -1)
        return {"text_embeds": told["pooled"], "time_ids": geometry.to(latents.dtype)}
