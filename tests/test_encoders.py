"""The judge: a CLIP model from a folder, read safely, independent of batches, refused when it cannot judge."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tiny import make_tokenizer, once

from brushwork import config as configs
from brushwork.encoders import Colour, available, check_judge, load_clip, resolve_judge
from brushwork.errors import ModelError
from brushwork.features import FeatureStore, image_hash

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["a dog", "a cat", "a very long caption about a dog and a cat"]


def make_tiny_clip(folder: Path, *, eos_token_id: int | None = None) -> Path:
    """Write a random CLIPModel with a tokenizer and an image processor; 20 tokens, 24 px."""

    def write(folder: Path) -> None:
        import torch
        from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

        tokenizer = make_tokenizer()
        common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text = common | {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 20,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": eos_token_id or tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        vision = common | {"image_size": 24, "patch_size": 8}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder)

    return once(("clip", eos_token_id), folder, write)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(count)]


def test_features_are_unit_vectors_of_the_models_own_projections(clip_folder: Path) -> None:
    clip = load_clip(str(clip_folder))
    images, (texts, cut) = clip.encode_images(pictures(3)), clip.encode_texts(TEXTS[:2])
    assert images.shape == (3, 8)
    assert not cut
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-6)


def test_cosines_equal_the_models_own_logits(clip_folder: Path) -> None:
    clip = load_clip(str(clip_folder))
    pixels = clip.processor(images=pictures(2), return_tensors="pt")["pixel_values"]
    tokens = clip.tokenizer(TEXTS[:2], padding="max_length", max_length=20, return_tensors="pt")
    output = clip.model(pixel_values=pixels, **tokens)
    expected = (output.logits_per_image / clip.model.logit_scale.exp()).detach().numpy()
    np.testing.assert_allclose(clip.encode_images(pictures(2)) @ clip.encode_texts(TEXTS[:2])[0].T, expected, atol=1e-6)


def test_features_do_not_depend_on_the_batch(clip_folder: Path) -> None:
    clip = load_clip(str(clip_folder))
    many, one = clip.encode_images(pictures(20)), clip.encode_images(pictures(20)[7:8])
    np.testing.assert_allclose(many[7:8], one, atol=1e-6)
    np.testing.assert_allclose(clip.encode_texts(TEXTS)[0][:1], clip.encode_texts(TEXTS[:1])[0], atol=1e-6)


def test_texts_longer_than_the_model_reads_are_cut_and_named(clip_folder: Path) -> None:
    assert load_clip(str(clip_folder)).encode_texts(TEXTS)[1] == TEXTS[2:]


def test_a_wrong_end_of_text_token_is_refused_because_all_texts_would_be_equal(tmp_path: Path) -> None:
    clip = load_clip(str(make_tiny_clip(tmp_path, eos_token_id=49407)))
    with pytest.raises(ModelError, match="eos_token_id is 49407"):
        clip.encode_texts(TEXTS)


def test_equal_texts_are_no_trap(clip_folder: Path) -> None:
    features, _ = load_clip(str(clip_folder)).encode_texts(["a dog", "a dog", "a cat"])
    np.testing.assert_array_equal(features[0], features[1])


def test_texts_that_differ_in_a_word_that_the_judge_does_not_know_are_no_trap(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = load_clip(str(clip_folder))
    words = clip.model.text_model.embeddings.token_embedding.weight
    two, three = clip.tokenizer(["2", "3"])["input_ids"]
    with monkeypatch.context() as patched:
        patched.setattr(words, "data", words.data.clone())
        words.data[three[1]] = words.data[two[1]]
        features, _ = clip.encode_texts(["plate 2", "plate 3"])
    assert float(features[0] @ features[1]) > 0.99999


def test_a_text_is_read_alike_whatever_stands_beside_it_and_as_padded_in_full(clip_folder: Path) -> None:
    clip = load_clip(str(clip_folder))
    tokens = clip.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=20, return_tensors="pt")
    padded = clip.model.get_text_features(**tokens).pooler_output.detach().numpy()
    np.testing.assert_allclose(
        clip.encode_texts(TEXTS)[0], padded / np.linalg.norm(padded, axis=1, keepdims=True), atol=1e-6
    )


def test_the_revision_is_the_hash_of_the_weights(clip_folder: Path, tmp_path: Path) -> None:
    clip, again = load_clip(str(clip_folder)), load_clip(str(make_tiny_clip(tmp_path)))
    assert clip.revision == again.revision
    assert clip.preprocessing == again.preprocessing
    next(again.model.parameters()).data.add_(1)
    again.model.save_pretrained(tmp_path)
    assert load_clip(str(tmp_path)).revision != clip.revision


@pytest.mark.parametrize(("judge", "base", "expected"), [
    ("auto", "mini", "mini-clip"),
    ("auto", "someone/model", "openai/clip-vit-base-patch32"),
    ("my/judge", "mini", "my/judge"),
])  # fmt: skip
def test_the_automatic_judge_follows_the_base(judge: str, base: str, expected: str) -> None:
    assert resolve_judge(judge, base) == expected


def _config(**validation: Any) -> configs.Config:
    return configs.load({"data": "engravings"}, base="someone/model", validation=validation)


def test_a_judge_asked_for_by_name_must_be_there_before_training() -> None:
    with pytest.raises(ModelError, match=r"\./nowhere"):
        check_judge(_config(judge="./nowhere"))


@pytest.mark.filterwarnings("ignore")  # the hub's client complains about the network in its own way
def test_the_automatic_judge_may_be_missing_with_a_warning() -> None:
    (warning,) = check_judge(_config())
    assert "not measured" in warning
    assert "clip-vit-base-patch32" in warning


def test_a_judge_that_is_there_needs_no_words(clip_folder: Path) -> None:
    assert check_judge(_config(judge=str(clip_folder))) == []


def test_another_kind_of_model_is_no_judge(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "'bert' model" in (available(str(tmp_path)) or "")


def test_weights_that_are_missing_are_not_replaced_by_random_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = make_tiny_clip(tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights["visual_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    assert "lacks weights: visual_projection.weight" in (available(str(tmp_path)) or "")


def test_weights_cut_short_are_an_error_of_one_line(tmp_path: Path) -> None:
    path = make_tiny_clip(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded" in (available(str(tmp_path)) or "")


def test_saturation_and_value_of_known_colours() -> None:
    colours = ["red", "white", "black", (255, 128, 128), (100, 50, 50)]
    features = Colour().encode_images([Image.new("RGB", (4, 4), colour) for colour in colours])
    np.testing.assert_allclose(features[:, 0], [1, 0, 0, 127 / 255, 0.5], atol=1e-6)
    np.testing.assert_allclose(features[:, 1], [1, 1, 0, 1, 100 / 255], atol=1e-6)


def test_saturation_agrees_with_pillows_hsv() -> None:
    image = pictures(1)[0]
    hsv = np.asarray(image.convert("HSV")) / 255
    np.testing.assert_allclose(Colour().encode_images([image])[0], hsv[..., 1:].mean(axis=(0, 1)), atol=0.005)


class Counting(Colour):
    """Counts what it is given."""

    seen = 0

    def encode_images(self, images: Any) -> Any:
        """Count, then encode."""
        self.seen += len(images)
        return super().encode_images(images)


def test_a_picture_is_encoded_once_also_in_the_next_process(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    store = FeatureStore(tmp_path, first)
    features, hashes = store.of([*pictures(3), pictures(3)[0]])
    store.save()
    again, _ = FeatureStore(tmp_path, second).of(pictures(4))
    assert (first.seen, second.seen) == (3, 1)
    np.testing.assert_array_equal(features[0], features[3])
    np.testing.assert_array_equal(again[:3], features[:3])
    assert hashes[0] == hashes[3] == image_hash(pictures(1)[0])


def test_another_preprocessing_does_not_meet_old_features(tmp_path: Path) -> None:
    one, other = Counting(), Counting()
    other.preprocessing = "other"
    store = FeatureStore(tmp_path, one)
    store.of(pictures(2))
    store.save()
    FeatureStore(tmp_path, other).of(pictures(2))
    assert other.seen == 2
