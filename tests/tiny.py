"""A random Stable Diffusion small enough for unit tests: 32 px pictures, 8 px latents, 110k parameters.

folder = make_tiny_sd(tmp_path / "tiny")
family = families.load(str(folder))
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import CLIPTokenizer

WIDTH = 32
UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": WIDTH,
}
START, END = "<|startoftext|>", "<|endoftext|>"


def make_tiny_sd(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0, **unet: Any) -> Path:
    """Write a complete diffusers pipeline folder with random weights; the same seed gives the same weights.

    ``unet`` overrides settings of the UNet, for bases of another shape.
    """

    def write(folder: Path) -> None:
        import torch
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        tokenizer = make_tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pipeline = StableDiffusionPipeline(
                vae=_vae(),
                text_encoder=_text_encoder(tokenizer),
                tokenizer=tokenizer,
                unet=_unet(**unet),
                scheduler=DDIMScheduler(
                    beta_start=0.00085,
                    beta_end=0.012,
                    beta_schedule="scaled_linear",
                    prediction_type=prediction_type,
                    clip_sample=False,
                    set_alpha_to_one=False,
                    steps_offset=1,
                ),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        pipeline.save_pretrained(folder, safe_serialization=True)

    return once(("sd", prediction_type, seed, unet), folder, write)


def once(key: object, folder: Path, write: Callable[[Path], object]) -> Path:
    """Write a folder, or copy what was written for the same key before."""
    master = Path(_masters().name, hashlib.sha256(repr(key).encode()).hexdigest())
    if not master.exists():
        write(master)
    shutil.copytree(master, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return folder


@functools.cache
def _masters() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for this process."""
    return tempfile.TemporaryDirectory()


def make_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer whose tokens are single bytes: every text can be written, one token a letter."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)


def _text_encoder(tokenizer: CLIPTokenizer) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def _unet(**overrides: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**(UNET | overrides)).eval()


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        mid_block_add_attention=False,
    ).eval()
