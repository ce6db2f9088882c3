"""FLUX.2 klein: states of three layers of Qwen3, latents in patches that are normalised by channel, a rectified flow.

Latents are here as the denoiser takes them, (B, 128, H / 16, W / 16). The distilled klein is drawn in 4 steps without
guidance, its base in 50 with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from brushwork import components, flow
from brushwork.settings import Sampling
from brushwork.values import Conditioning, Flow, Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from brushwork.families import Described

PIPELINE = "Flux2KleinPipeline"
CLASSES = {
    "transformer": "Flux2Transformer2DModel",
    "vae": "AutoencoderKLFlux2",
    "text_encoder": "Qwen3ForCausalLM",
    "tokenizer": "Qwen2TokenizerFast",
}
LAYERS = (9, 18, 27)
"""Of whose states the text's are made."""
TOKENS = 512


def recognises(described: Described) -> bool:
    """Return whether a base is of this family; diffusers has no single-file loader for its pipeline."""
    return bool(described.index.get("_class_name") == PIPELINE)


def load(described: Described, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Flux2:
    """Load the components by their classes; see ``brushwork.families.load``."""
    distilled = bool(described.index.get("is_distilled", False))
    return Flux2(components.load(described, CLASSES, dtype), device, distilled=distilled)


class Flux2(components.Assembly):
    """The modules of one FLUX.2 klein model."""

    name = "flux2"
    pipeline_name = PIPELINE
    patch = 1

    def __init__(self, parts: dict[str, Any], device: str, *, distilled: bool) -> None:
        super().__init__(parts, device)
        self.pipeline_settings = {"is_distilled": distilled}
        self.pixels_per_latent *= 2
        self.size_multiple = self.pixels_per_latent
        self.latent_channels *= 4
        self.flow = Flow(mu=empirical_mu, patch=1)
        self.sampling = Sampling("Euler", 4, 1.0) if distilled else Sampling("Euler", 50, 4.0)

    def max_tokens(self, encoder: str) -> int:  # noqa: ARG002  (there is one)
        """Return 512."""
        return TOKENS

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Return the states of three layers side by side, (B, 512, 3 x width)."""
        import torch

        tokenizer, encoder = self.tokenizers["text_encoder"], self.text_encoders["text_encoder"]
        texts = components.as_chats(tokenizer, captions, thinking=False)
        tokens = components.padded_tokens(tokenizer, texts, TOKENS).to(self.device)
        said = encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True, use_cache=False
        )
        return Conditioning({"states": torch.cat([said.hidden_states[layer] for layer in LAYERS], dim=-1)})

    def encode_images(self, pixels: Tensor) -> Moments:
        """Return the posterior's mode in patches, without deviation, as diffusers' scripts train it."""
        import torch

        patches = torch.nn.functional.pixel_unshuffle(self.vae.encode(pixels).latent_dist.mode(), 2)
        return Moments(patches, torch.zeros_like(patches))

    @property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel, kept in the VAE's batch normalisation."""
        norm = self.vae.bn
        variance = norm.running_var.view(1, -1, 1, 1) + self.vae.config.batch_norm_eps
        return norm.running_mean.view(1, -1, 1, 1), variance.sqrt()

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Normalise by channel."""
        mean, deviation = (each.to(latents.device, latents.dtype) for each in self._statistics)
        scaled: Tensor = (latents - mean) / deviation
        return scaled

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W)."""
        import torch

        mean, deviation = (each.to(latents.device, latents.dtype) for each in self._statistics)
        whole = torch.nn.functional.pixel_shuffle(latents * deviation + mean, 2)
        return cast("Tensor", self.vae.decode(whole, return_dict=False)[0])

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the transformer on (B, H W, 128), with four places for each token: time, row, column, in the text."""
        import torch

        states = conditioning.tensors["states"]
        height, width = latents.shape[-2:]
        one = torch.arange(1)
        predicted = self.denoiser(
            hidden_states=latents.flatten(2).transpose(1, 2),
            timestep=timesteps.to(latents.dtype) / flow.TIMESTEPS,
            guidance=None,
            encoder_hidden_states=states,
            txt_ids=torch.cartesian_prod(one, one, one, torch.arange(states.shape[1])).to(latents.device),
            img_ids=torch.cartesian_prod(one, torch.arange(height), torch.arange(width), one).to(latents.device),
            return_dict=False,
        )
        tokens: Tensor = predicted[0]
        return cast("Tensor", tokens.transpose(1, 2).unflatten(2, (height, width)))


def empirical_mu(tokens: int, steps: int) -> float:
    """Return the log shift that Black Forest Labs found for a number of tokens and of steps (diffusers' numbers)."""
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:  # noqa: PLR2004  (theirs)
        return at_200
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    return at_10 + (at_200 - at_10) / 190 * (steps - 10)
