"""Text encoders, tokenizers and VAEs of the real classes, of which ``tiny_families`` makes whole pipelines.

encoder, tokenizer = t5(WIDTH)
"""

from __future__ import annotations

from typing import Any

from tiny import make_tokenizer

WIDTH = 32
SECOND = 48
"""Of a second CLIP: by their widths diffusers tells two of them apart in a single file."""
BOTH = WIDTH + SECOND
PIXELS = 32
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def clip(width: int = WIDTH, *, projection: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = make_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=WIDTH,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5(width: int) -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((each, -3.0) for each in letters)]
    tokenizer = T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2, use_cache=False
    )
    return T5EncoderModel(config).eval(), tokenizer


def qwen_tokenizer() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [*special, *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2TokenizerFast(
        vocab={word: index for index, word in enumerate(words)},
        merges=[],
        model_max_length=4096,
        extra_special_tokens=special[1:],
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(layers: int, kind: str) -> tuple[Any, Any]:
    import transformers

    tokenizer = qwen_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return getattr(transformers, kind)(config).eval(), tokenizer


def gemma() -> tuple[Any, Any]:
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizerFast

    letters = ["▁", *(chr(code) for code in range(33, 127))]
    pieces = [f"<0x{code:02X}>" for code in range(256)]
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *pieces, *letters]
    tokenizer = GemmaTokenizerFast(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=4096
    )
    config = Gemma2Config(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
    )
    return Gemma2Model(config).eval(), tokenizer


def vae(**settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**(stages() | {"latent_channels": 4} | settings)).eval()


def stages() -> dict[str, Any]:
    return {
        "block_out_channels": (4, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": PIXELS,
        "mid_block_add_attention": False,
    }


def shifted_vae() -> Any:
    return vae(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)
