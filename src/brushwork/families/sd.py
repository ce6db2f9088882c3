"""Stable Diffusion 1.x and 2.x: CLIP text encoder, AutoencoderKL, UNet2DConditionModel; epsilon or v-prediction.

The UNet may be one for inpainting, of nine channels (``brushwork.mask_channels``).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

from brushwork import chunks, mask_channels
from brushwork.components import fingerprint, no_bars
from brushwork.controlnet import unet
from brushwork.embeddings import expand
from brushwork.errors import ConfigError, ModelError
from brushwork.values import Conditioning, Moments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch import Tensor, nn
    from transformers import CLIPTextModel, CLIPTokenizer

    from brushwork.families import Described
    from brushwork.grammar import Piece
    from brushwork.values import Guidance, Prediction

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline")
UNET_KEY = "model.diffusion_model.input_blocks.0.0.weight"
TEXT_KEYS = (
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.model.token_embedding.weight",
)


def recognises(described: Described) -> bool:
    """Return whether a base is of this family."""
    if described.is_file:
        return UNET_KEY in described.keys and any(key in described.keys for key in TEXT_KEYS)
    return bool(described.index.get("_class_name") in PIPELINES)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> StableDiffusion:
    """Load the components by their classes; see ``brushwork.families.load``."""
    import torch

    dtype = dtype or torch.float32
    parts = _from_file(described, dtype) if described.is_file else _from_folder(described, dtype)
    return StableDiffusion(parts, device)


def _from_folder(described: Described, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = described.path
    weights = {"torch_dtype": dtype, "use_safetensors": True}
    try:
        with no_bars():
            encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, use_safetensors=True)
        return {
            "unet": UNet2DConditionModel.from_pretrained(folder / "unet", **weights),
            "vae": AutoencoderKL.from_pretrained(folder / "vae", **weights),
            "text_encoder": encoder,
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            "scheduler": _scheduler_config(folder / "scheduler"),
        }
    except OSError as error:
        message = (
            f"base: {described.asked!r} is incomplete: {str(error).splitlines()[0]}\n"
            "A Stable Diffusion folder has unet, vae, text_encoder, tokenizer and scheduler, with .safetensors weights."
        )
        raise ModelError(message) from error


def _scheduler_config(folder: Path) -> dict[str, Any]:
    from diffusers import DDPMScheduler

    return dict(DDPMScheduler.load_config(folder))


def _from_file(described: Described, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import StableDiffusionPipeline

    try:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(described.path), config=described.config, torch_dtype=dtype, safety_checker=None,
            **mask_channels.of_file(described, dtype),
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        message = (
            f"base: {described.asked!r} could not be read as a Stable Diffusion checkpoint: "
            f"{str(error).splitlines()[0]}\n"
            f"A single file holds weights only; its configs and tokenizer are fetched from the hub. Without a network, "
            f"name a diffusers folder of the same architecture as base_config."
        )
        raise ModelError(message) from error
    names = ("unet", "vae", "text_encoder", "tokenizer")
    return {name: getattr(pipeline, name) for name in names} | {"scheduler": dict(pipeline.scheduler.config)}


class StableDiffusion:
    """The modules of one Stable Diffusion model and the arithmetic that belongs to them."""

    name = "sd"
    denoiser_name = "unet"
    flow = None
    guidance: Guidance = "free"
    sampling = None
    reads_geometry = False
    control = unet.KIND

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        from diffusers import DDPMScheduler

        self.device = device
        self.unet: UNet2DConditionModel = parts["unet"].to(device).eval().requires_grad_(requires_grad=False)
        self.vae: AutoencoderKL = parts["vae"].to(device).eval().requires_grad_(requires_grad=False)
        self.text_encoder: CLIPTextModel = parts["text_encoder"].to(device).eval().requires_grad_(requires_grad=False)
        self.tokenizer: CLIPTokenizer = parts["tokenizer"]
        self.scheduler_config: dict[str, Any] = parts["scheduler"]
        self.prediction = cast("Prediction", self.scheduler_config.get("prediction_type", "epsilon"))
        self.alphas_cumprod: Tensor = DDPMScheduler.from_config(self.scheduler_config).alphas_cumprod.double()
        self.pixels_per_latent = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.size_multiple = self.pixels_per_latent
        self.latent_channels = int(self.vae.config.latent_channels)
        wide = mask_channels.is_wide(self.unet, self.latent_channels)
        self.inference_only = mask_channels.UNTRAINED if wide else None
        self.resolution = int(self.unet.config.sample_size) * self.pixels_per_latent
        self.fingerprint = fingerprint(self.unet, self.vae, self.text_encoder)
        self.vae_fingerprint = fingerprint(self.vae)
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        words = hashlib.blake2b(repr((vocabulary, self.tokenizer.model_max_length)).encode(), digest_size=8)
        self.text_fingerprint = fingerprint(self.text_encoder) + words.hexdigest()

    @property
    def denoiser(self) -> nn.Module:
        """The UNet."""
        unet: nn.Module = self.unet
        return unet

    @property
    def text_encoders(self) -> dict[str, nn.Module]:
        """The one text encoder, by its name in the pipeline."""
        return {"text_encoder": self.text_encoder}

    @property
    def tokenizers(self) -> dict[str, Any]:
        """Its tokenizer."""
        return {"text_encoder": self.tokenizer}

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return the last hidden states, (B, tokens, width), padded as StableDiffusionPipeline pads."""
        tokens = self.tokenizer(
            [expand(caption, self.tokenizer) for caption in captions],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = tokens.attention_mask.to(self.device)
        states = self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        return Conditioning({"states": states})

    def encode_pieces(self, texts: Sequence[Sequence[Piece]], clip_skip: int = 1) -> Conditioning:
        """Return the states of weighted and long texts, all brought to the same number of chunks by empty ones.

        Raises:
            ConfigError: There are not so many layers to skip.
        """
        import torch

        layers = int(self.text_encoder.config.num_hidden_layers)
        if not 1 <= clip_skip <= layers:
            message = f"clip_skip: {clip_skip} is not from 1 (nothing) to {layers}, the layers of this text encoder"
            raise ConfigError(message)
        every = [chunks.cut(text, self.tokenizer) for text in texts]
        most = max(map(len, every))
        padded = [[*each, *(chunks.Chunk() for _ in range(most - len(each)))] for each in every]
        states = [chunks.encode(each, self.tokenizer, self.text_encoder, clip_skip=clip_skip) for each in padded]
        return Conditioning({"states": torch.cat(states)})

    def encode_images(self, pixels: Tensor) -> Moments:
        """Return the posterior of pixels (B, 3, H, W) in [-1, 1]."""
        posterior = self.vae.encode(pixels).latent_dist
        return Moments(posterior.mean, posterior.std)

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Multiply by the VAE's scaling factor (0.18215 for Stable Diffusion)."""
        scaled: Tensor = latents * self.vae.config.scaling_factor
        return scaled

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W)."""
        return cast("Tensor", self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0])

    def unread(self, caption: str) -> str:
        """Return what lies beyond the encoder's 77 tokens, two of which mark start and end."""
        tokens = self.tokenizer(expand(caption, self.tokenizer), add_special_tokens=False, verbose=False).input_ids
        return cast("str", self.tokenizer.decode(tokens[self.tokenizer.model_max_length - 2 :])).strip()

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the UNet."""
        states, added = conditioning.tensors["states"], unet.added(conditioning)
        latents = mask_channels.widened(self.unet, latents, conditioning)
        return cast("Tensor", self.unet(latents, timesteps, states, **added, return_dict=False)[0])

    def pipeline(self) -> Any:
        """Return the base's pipeline, plain or for inpainting, around these very modules."""
        import diffusers
        from diffusers import DDIMScheduler

        pipeline = getattr(diffusers, PIPELINES[self.inference_only is not None])(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=DDIMScheduler.from_config(self.scheduler_config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def save(self, folder: Path) -> None:
        """Write a diffusers pipeline folder with safetensors weights."""
        self.pipeline().save_pretrained(folder, safe_serialization=True)
