"""Captioners: the embedded one names things, backgrounds and manners; others load from folders; the rest is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from brushwork.captioners import LENGTH, MINI_CAPTIONER, Captioner, load_captioner
from brushwork.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

DATASETS = MINI_CAPTIONER.parent / "datasets"


@pytest.fixture(scope="module")
def mini() -> Captioner:
    return load_captioner("mini-captioner")


def embedded(name: str, count: int) -> tuple[list[Image.Image], list[str]]:
    """Return pictures spread over an embedded data set, and their captions."""
    paths = sorted((DATASETS / name).glob("*.png"))
    paths = paths[:: max(1, len(paths) // count)][:count]
    return [Image.open(path) for path in paths], [path.with_suffix(".txt").read_text().strip() for path in paths]


@pytest.mark.parametrize(("dataset", "manner", "trigger"), [
    ("engravings", "an engraving of ", ", old ink engraving"),
    ("sketches", "a pencil sketch of ", ", soft pencil drawing"),
])  # fmt: skip
def test_mini_captioner_names_manner_and_thing(mini: Captioner, dataset: str, manner: str, trigger: str) -> None:
    pictures, captions = embedded(dataset, 16)
    said = mini.describe(pictures)
    nouns = [caption.removesuffix(trigger).removeprefix("an ").removeprefix("a ") for caption in captions]
    assert sum(text.startswith(manner) for text in said) >= 15, said
    assert sum(noun in text for noun, text in zip(nouns, said, strict=True)) >= 13, list(
        zip(said, captions, strict=True)
    )


def test_mini_captioner_names_backgrounds(mini: Captioner) -> None:
    pictures, captions = embedded("mascot", 5)
    grounds = [caption[caption.index(" on ") :] for caption in captions]
    said = mini.describe(pictures)
    assert sum(text.endswith(ground) for text, ground in zip(said, grounds, strict=True)) >= 4, said


def test_mini_captioner_is_what_transformers_loads_by_itself(mini: Captioner) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(MINI_CAPTIONER)
    model = AutoModelForImageTextToText.from_pretrained(MINI_CAPTIONER)
    pictures, _ = embedded("engravings", 3)
    tokens = model.generate(**processor(images=pictures, return_tensors="pt"), max_new_tokens=LENGTH)
    assert processor.batch_decode(tokens, skip_special_tokens=True) == mini.describe(pictures)


def test_mini_captioner_is_small_and_computes_in_single_precision(mini: Captioner) -> None:
    assert (MINI_CAPTIONER / "model.safetensors").stat().st_size <= 6e6
    assert {str(parameter.dtype) for parameter in mini.model.parameters()} == {"torch.float32"}


def test_captions_depend_neither_on_batch_nor_size_nor_mode(mini: Captioner) -> None:
    pictures, _ = embedded("engravings", 20)
    said = mini.describe(pictures)
    assert mini.describe(pictures[7:8]) == said[7:8]
    assert mini.describe([pictures[7].convert("RGBA").resize((128, 128), Image.Resampling.NEAREST)]) == said[7:8]
    assert mini.describe([]) == []


def make_tiny(kind: str, folder: Path) -> Path:
    """Write a random captioner of another architecture, with tokenizer and image processor; 32 px."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        CLIPImageProcessorPil,
        GitConfig,
        GitForCausalLM,
        GitVisionConfig,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )  # fmt: skip

    tokenizer = BertTokenizer(
        vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat"])}
    )
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    eyes, words = shape | {"image_size": 32, "patch_size": 16}, shape | {"vocab_size": len(tokenizer)}
    model: Any
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "git":
            vision = GitVisionConfig(**eyes).to_dict()
            model = GitForCausalLM(GitConfig(vision_config=vision, max_position_embeddings=64, **words, **ends))
            CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
        else:
            config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
                ViTConfig(**eyes), BertConfig(max_position_embeddings=64, **words)
            )
            config.decoder_start_token_id = ends["bos_token_id"]
            model = VisionEncoderDecoderModel(config)
            model.generation_config.update(decoder_start_token_id=2, **ends)
            ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["git", "vision-encoder-decoder"])
def test_other_captioners_load_from_folders(kind: str, tmp_path: Path) -> None:
    captioner = load_captioner(str(make_tiny(kind, tmp_path)))
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    said = captioner.describe([Image.fromarray(pixels) for pixels in noise])
    assert len(said) == 3
    assert set(" ".join(said).split()) <= {"a", "dog", "cat", "[UNK]"}
    assert said == load_captioner(str(tmp_path)).describe([Image.fromarray(pixels) for pixels in noise])


def test_the_revision_is_the_hash_of_the_weights(tmp_path: Path) -> None:
    captioner = load_captioner(str(make_tiny("git", tmp_path)))
    assert load_captioner(str(tmp_path)).revision == captioner.revision
    next(captioner.model.parameters()).data.add_(1)
    captioner.model.save_pretrained(tmp_path)
    assert load_captioner(str(tmp_path)).revision != captioner.revision


def test_what_is_no_captioner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"captioner: '\./nowhere' is not a model folder"):
        load_captioner("./nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="is a 'bert' model; a captioner is one of blip, git, vision-encoder-decoder"):
        load_captioner(str(tmp_path))


def test_a_captioner_without_weights_is_refused(tmp_path: Path) -> None:
    for name in ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((MINI_CAPTIONER / name).read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_captioner(str(tmp_path))


def test_a_captioner_with_missing_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in MINI_CAPTIONER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(MINI_CAPTIONER / "model.safetensors")
    del weights["vision_model.post_layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights: vision_model\.post_layernorm\.weight"):
        load_captioner(str(tmp_path))
