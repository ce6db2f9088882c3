"""What the benchmarks train on: a random Stable Diffusion 1.5 of any width, and pictures with captions.

    make_base(folder / "base", width=80)      # a quarter of Stable Diffusion 1.5's 320 channels
    make_pictures(folder / "pictures", count=24, size=128)

Random weights cost the same time as trained ones, and no weights need to be fetched. Both are the same every time.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FULL_WIDTH = 320
"""The channels of the first block of Stable Diffusion 1.5; the others are 2, 4 and 4 times as many."""
QUARTER = 80
VOCABULARY = 49408
"""CLIP's: as many rows has the text encoder's table, which diffusers' Textual Inversion goes through in every step."""
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
THINGS = ("boat", "house", "tree", "cloud", "hill")


def make_base(folder: Path, width: int = QUARTER) -> Path:
    """Write a diffusers pipeline folder of Stable Diffusion 1.5's architecture, ``width / 320`` as wide."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    if (folder / "model_index.json").is_file():
        return folder
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    StableDiffusionPipeline(
        vae=_vae(width),
        text_encoder=_text_encoder(width, tokenizer),
        tokenizer=tokenizer,
        unet=_unet(width),
        scheduler=DDIMScheduler(**schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def _unet(width: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        norm_num_groups=math.gcd(32, width),
        cross_attention_dim=_text_width(width),
        attention_head_dim=8,
    )


def _vae(width: int) -> Any:
    from diffusers import AutoencoderKL

    first = 128 * width // FULL_WIDTH
    return AutoencoderKL(
        block_out_channels=(first, 2 * first, 4 * first, 4 * first),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=math.gcd(32, first),
        latent_channels=4,
        sample_size=512,
    )


def _text_width(width: int) -> int:
    return 768 * width // FULL_WIDTH


def _text_encoder(width: int, tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    hidden = _text_width(width)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            projection_dim=hidden,
            num_hidden_layers=12,
            num_attention_heads=12,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _tokenizer() -> Any:
    """Return a CLIP tokenizer whose tokens are single letters; padded to CLIP's 77 it costs what CLIP's costs.

    Words that no text is read as fill it up to CLIP's number, or a script would cut the table down to the letters.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    known, ends = [*letters, *(f"{letter}</w>" for letter in letters)], ["<|startoftext|>", "<|endoftext|>"]
    words = [*known, *(f"unread{number}" for number in range(VOCABULARY - len(known) - len(ends))), *ends]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)


def make_pictures(folder: Path, count: int = 24, size: int = 128, *, captions: bool = True) -> Path:
    """Write an image folder with ``metadata.jsonl``, as both trainers read it; every caption is another.

    Without ``captions`` there is nothing in it but pictures.
    """
    import numpy as np
    from PIL import Image

    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    lines = []
    for index in range(count):
        random = np.random.default_rng(index)
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), dtype=np.int64)
        grain = random.integers(-12, 13, (size, size, 3))
        name = f"{index:03}.jpg"
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / name, quality=95)
        colour, thing = COLOURS[index % len(COLOURS)], THINGS[index // len(COLOURS) % len(THINGS)]
        lines.append(json.dumps({"file_name": name, "text": f"a {colour} {thing}, number {index}"}))
    if captions:
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
