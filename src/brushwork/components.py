"""The parts of a diffusers pipeline: loaded by their known classes, put together, hashed.

    parts = load(described, {"vae": "AutoencoderKL", "transformer": "SD3Transformer2DModel", ...}, dtype)

``Assembly`` is what families have in common; what makes a family is in its own file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from brushwork import mask_channels
from brushwork.embeddings import expand
from brushwork.errors import ModelError
from brushwork.values import Moments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from brushwork.families import Described
    from brushwork.settings import Sampling
    from brushwork.values import Flow, Guidance, Prediction

MODELS = ("Model", "ForCausalLM", "Projection", "Generation")
"""Ends of transformers' names of models; what ends otherwise is a tokenizer."""

HELD: Mapping[str, tuple[str, ...]] = {
    "Autoencoder": ("first_stage_model.", "vae."),
    "CLIPText": ("cond_stage_model.", "conditioner.embedders.", "text_encoders.clip_"),
    "T5Encoder": ("text_encoders.t5xxl.",),
}
"""How the names of a part's tensors begin in a single file that holds it, by the start of its class."""

STAGES, CHANNELS = ("block_out_channels", "encoder_block_out_channels", "dim_mult"), ("latent_channels", "z_dim")


def load(described: Described, classes: Mapping[str, str], dtype: torch.dtype | None) -> dict[str, Any]:
    """Load a pipeline's parts from its folder, each by its class; a part that the index has as null is None.

    Of several classes, ``A|B``, it is the one that the index names.

    Raises:
        ModelError: A part is missing, or has no safetensors weights.
    """
    import torch

    parts: dict[str, Any] = {}
    with no_bars():
        for name, kind in classes.items():
            _, said = described.index.get(name) or (None, kind)
            if said is None:
                parts[name] = None
                continue
            choices = kind.split("|")
            try:
                known = said if said in choices else choices[0]
                parts[name] = _part(described.path / name, known, dtype or torch.float32)
            except (OSError, ValueError) as error:
                every = ", ".join(each for each in [*classes, "scheduler"] if described.index.get(each) != [None, None])
                message = (
                    f"base: {described.asked!r} is incomplete: {str(error).splitlines()[0]}\n"
                    f"It needs {every}, with .safetensors weights."
                )
                raise ModelError(message) from error
    parts["scheduler"] = scheduler_config(described.path / "scheduler")
    return parts


def _part(folder: Path, kind: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    if not folder.is_dir():
        message = f"{folder.name} is not there"
        raise OSError(message)
    if hasattr(diffusers, kind):
        return getattr(diffusers, kind).from_pretrained(folder, torch_dtype=dtype, use_safetensors=True)
    if kind.endswith(MODELS):
        return getattr(transformers, kind).from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return getattr(transformers, kind).from_pretrained(folder)


def from_file(
    described: Described, pipeline: str, classes: Mapping[str, str], dtype: torch.dtype | None
) -> dict[str, Any]:
    """Load a pipeline's parts from a single file; what it lacks comes from ``base_config``.

    Raises:
        ModelError: diffusers cannot read it, or what it lacks is not there.
    """
    import diffusers
    import torch
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    dtype = dtype or torch.float32
    try:
        beside = _beside(described, classes, dtype) | mask_channels.of_file(described, dtype)
        whole = getattr(diffusers, pipeline).from_single_file(
            str(described.path), config=described.config, torch_dtype=dtype, **beside
        )
    except (OSError, ValueError, KeyError, TypeError, SingleFileComponentError) as error:
        message = (
            f"base: {described.asked!r} could not be read as a {pipeline}: {str(error).splitlines()[0]}\n"
            f"A single file holds weights only, often without VAE and text encoders. Name a diffusers folder of the "
            f"same architecture as base_config, with the weights of what the file lacks."
        )
        raise ModelError(message) from error
    parts = {name: getattr(whole, name, None) for name in classes}
    config = {**whole.scheduler.config, "_class_name": type(whole.scheduler).__name__}
    return {**parts, "scheduler": config}


def _beside(described: Described, classes: Mapping[str, str], dtype: torch.dtype) -> dict[str, Any]:
    """Return the parts of ``base_config`` that the file has no weights of.

    FLUX is published as its transformer alone, Stable Diffusion 3 without T5; diffusers' own reader fetches no weights.
    """
    folder = Path(described.config or "")
    if described.config is None or not (folder / "model_index.json").is_file():
        return {}
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    lacking: dict[str, Any] = {}
    for name, kind in classes.items():
        marks = next((marks for start, marks in HELD.items() if kind.startswith(start)), None)
        if marks is None or any(key.startswith(marks) for key in described.keys) or index.get(name) == [None, None]:
            continue
        lacking[name] = _part(folder / name, kind, dtype)
    return lacking


def scheduler_config(folder: Path) -> dict[str, Any]:
    """Return a scheduler's config, whatever its class."""
    from diffusers import DDPMScheduler

    return dict(DDPMScheduler.load_config(folder))


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own for the tensors of one file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def fingerprint(*modules: nn.Module) -> str:
    """Return a hash of the weights: the same numbers give the same text, wherever they came from."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    digest = hashlib.blake2b(digest_size=16)
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            if isinstance(tensor, FakeTensor):  # of a forecast: it has no numbers
                continue
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def vocabulary(*tokenizers: Any) -> str:
    """Return a hash of what tokenizers make of words."""
    every = [(sorted(each.get_vocab().items()), each.model_max_length) for each in tokenizers]
    return hashlib.blake2b(repr(every).encode(), digest_size=8).hexdigest()


class Assembly:
    """The modules of one pipeline, frozen and on a device, and what families compute from them alike.

    A family derives from it, sets what follows, and adds ``encode_text`` and ``predict``. ``encode_images`` and its
    way back are those of an AutoencoderKL whose latents are scaled and, where its config says so, shifted.
    """

    name: str
    pipeline_name: str
    pipeline_settings: Mapping[str, Any] = {}
    denoiser_name = "transformer"
    prediction: Prediction = "flow"
    flow: Flow | None = None
    guidance: Guidance = "free"
    sampling: Sampling | None = None
    reads_geometry = False
    resolution = 1024
    patch = 2
    """Sides are multiples of so many latents."""
    size_limit: int | None = None
    """The longest side in pixels, where the denoiser knows no places beyond."""

    def __init__(self, parts: dict[str, Any], device: str) -> None:
        from brushwork.flow import schedule

        self.device, self.parts = device, parts
        self.scheduler_config: dict[str, Any] = parts.pop("scheduler")
        modules = {name: part for name, part in parts.items() if hasattr(part, "parameters")}
        for module in modules.values():
            module.to(device).eval().requires_grad_(requires_grad=False)
        self.vae: Any = parts["vae"]
        self.denoiser: Any = parts[self.denoiser_name]
        self.text_encoders: dict[str, Any] = {name: each for name, each in modules.items() if name.startswith("text_")}
        self.tokenizers: dict[str, Any] = {
            name: parts[name.replace("text_encoder", "tokenizer")] for name in self.text_encoders
        }
        self.alphas_cumprod: Tensor = schedule()
        self.latent_channels, self.pixels_per_latent = _of_autoencoder(self.vae.config)
        self.size_multiple = self.pixels_per_latent * self.patch
        self.fingerprint = fingerprint(*modules.values())
        # The name too: another family may make something else of the same weights.
        self.vae_fingerprint = f"{self.name}-{fingerprint(self.vae)}"
        words = vocabulary(*self.tokenizers.values())
        self.text_fingerprint = f"{self.name}-{fingerprint(*self.text_encoders.values())}{words}"

    def encode_images(self, pixels: Tensor) -> Moments:
        """Return the posterior of pixels (B, 3, H, W) in [-1, 1]."""
        posterior = self.vae.encode(pixels).latent_dist
        return Moments(posterior.mean, posterior.std)

    @property
    def _scale(self) -> tuple[float, float]:
        config = self.vae.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Shift and scale as the VAE's config says."""
        factor, shift = self._scale
        return (latents - shift) * factor

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W)."""
        factor, shift = self._scale
        return cast("Tensor", self.vae.decode(latents / factor + shift, return_dict=False)[0])

    def unread(self, caption: str) -> str:
        """Return what lies beyond the text encoder that reads most."""
        lengths = {name: self.max_tokens(name) for name in self.tokenizers}
        name = max(lengths, key=lambda each: lengths[each])
        tokenizer, room = self.tokenizers[name], lengths[name] - tokenizer_overhead(self.tokenizers[name])
        tokens = tokenizer(expand(caption, tokenizer), add_special_tokens=False, verbose=False).input_ids
        return cast("str", tokenizer.decode(tokens[room:])).strip()

    def max_tokens(self, encoder: str) -> int:
        """Return how many tokens a text encoder is given."""
        return int(self.tokenizers[encoder].model_max_length)

    def pipeline(self) -> Any:
        """Return the family's pipeline around these very modules."""
        import diffusers

        kind = str(self.scheduler_config.get("_class_name", ""))
        scheduler = getattr(diffusers, kind if kind.endswith("Scheduler") else "FlowMatchEulerDiscreteScheduler")
        whole = getattr(diffusers, self.pipeline_name)(
            **self.parts, scheduler=scheduler.from_config(self.scheduler_config), **self.pipeline_settings
        )
        whole.set_progress_bar_config(disable=True)
        return whole

    def save(self, folder: Path) -> None:
        """Write a diffusers pipeline folder with safetensors weights."""
        self.pipeline().save_pretrained(folder, safe_serialization=True)


def _of_autoencoder(config: Any) -> tuple[int, int]:
    """Return an autoencoder's channels, and how many pixels a side a latent covers; each kind names them otherwise."""
    stages = next(config[key] for key in STAGES if key in config)
    return int(next(config[key] for key in CHANNELS if key in config)), 2 ** (len(stages) - 1)


def tokenizer_overhead(tokenizer: Any) -> int:
    """Return how many tokens mark start and end."""
    return len(tokenizer("").input_ids)


def clip_states(encoder: Any, tokenizer: Any, captions: list[str], device: str) -> Any:
    """Return what a CLIP text encoder says of captions padded to its 77 tokens, with all hidden states."""
    tokens = tokenizer(
        [expand(caption, tokenizer) for caption in captions],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return encoder(tokens.input_ids.to(device), output_hidden_states=True)


def as_chats(tokenizer: Any, captions: Sequence[str], *, thinking: bool) -> list[str]:
    """Return captions as what a user says to a language model, by the model's own template."""
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": caption}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        for caption in captions
    ]


def padded_tokens(tokenizer: Any, captions: list[str], length: int) -> Any:
    """Return captions as tokens, padded and cut to a length."""
    texts = [expand(caption, tokenizer) for caption in captions]
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
