"""Extractors load by a string, say what they are, do not depend on batches, and refuse what they cannot do."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from test_encoders import make_tiny_clip
from tiny import make_tokenizer

from brushwork.encoders import EOS_TRAP, Pixels, Reader, load_clip
from brushwork.errors import ConfigError, ModelError
from brushwork.extractors import KINDS, load, split
from brushwork.extractors.captions import Captions, CaptionTexts
from brushwork.extractors.technical import Technical, sharpness
from brushwork.prepared import Prepared

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.encoders import Encoder

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
EYES = SHAPE | {"image_size": 24, "patch_size": 8}


def pictures(count: int = 5) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)) for _ in range(count)]


def seeded(make: Any) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def make_siglip(folder: Path) -> Path:
    """Write a random SiglipModel that reads 20 tokens."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    tokenizer = make_tokenizer()
    text = SHAPE | {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "projection_size": 16}
    seeded(lambda: SiglipModel(SiglipConfig(text_config=text, vision_config=EYES))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(folder)
    return folder


def make_dino(folder: Path) -> Path:
    """Write a random Dinov2Model."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    shape = {key: value for key, value in EYES.items() if key != "intermediate_size"}
    seeded(lambda: Dinov2Model(Dinov2Config(**shape))).save_pretrained(folder)
    BitImageProcessorPil(size={"shortest_edge": 24}, crop_size=24).save_pretrained(folder)
    return folder


def make_classifier(folder: Path) -> Path:
    """Write a random ViTForImageClassification of four classes; its body is a ViTModel without a pooler."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    seeded(lambda: ViTForImageClassification(ViTConfig(**EYES, num_labels=4))).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extractors")
    make_tiny_clip(folder / "clip")
    make_siglip(folder / "siglip")
    make_dino(folder / "dino")
    make_classifier(folder / "classifier")
    return folder


KNOWN = ("clip:clip", "siglip:siglip", "dinov2:dino", "dinov2:classifier", "classifier:classifier", "pickscore:clip")


def opened(place: Path, name: str) -> Encoder:
    kind, _, which = name.partition(":")
    (encoder,) = load(f"{kind}:{place / which}")
    return encoder


@pytest.mark.parametrize("name", [*KNOWN, "pixels:8"])
def test_an_extractor_states_what_it_is_and_does_not_depend_on_batches(place: Path, name: str) -> None:
    encoder, again = (opened(place, name) if name in KNOWN else load(name)[0] for _ in range(2))
    assert encoder.name.startswith(name.partition(":")[0])
    assert (encoder.revision, encoder.preprocessing) == (again.revision, again.preprocessing)
    assert encoder.revision
    assert encoder.preprocessing
    many, one = encoder.encode_images(pictures(20)), encoder.encode_images(pictures(20)[17:18])
    assert many.dtype == np.float32
    assert len(many) == 20
    np.testing.assert_allclose(many[17:18], one, rtol=1e-4, atol=1e-6)


def test_dino_features_are_the_models_own_pooled_class_tokens(place: Path) -> None:
    dino: Any = opened(place, "dinov2:dino")
    pixels = dino.processor(images=pictures(3), return_tensors="pt")["pixel_values"]
    expected = dino.model(pixel_values=pixels).pooler_output.detach().numpy()
    np.testing.assert_allclose(dino.encode_images(pictures(3)), expected, rtol=1e-5)


def test_a_classifier_gives_probabilities(place: Path) -> None:
    probabilities = opened(place, "classifier:classifier").encode_images(pictures())
    assert probabilities.shape == (5, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_siglip_cosines_equal_the_models_own_logits(place: Path) -> None:
    siglip: Any = opened(place, "siglip:siglip")
    texts = ["a dog", "a cat"]
    pixels = siglip.processor(images=pictures(3), return_tensors="pt")["pixel_values"]
    tokens = siglip.tokenizer(texts, padding="max_length", max_length=20, return_tensors="pt")["input_ids"]
    model = siglip.model
    output = model(pixel_values=pixels, input_ids=tokens)
    expected = ((output.logits_per_image - model.logit_bias) / model.logit_scale.exp()).detach().numpy()
    np.testing.assert_allclose(siglip.encode_images(pictures(3)) @ siglip.encode_texts(texts)[0].T, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("size", [(24, 24), (64, 64), (24, 40), (17, 9), (100, 37)])
def test_pictures_are_prepared_as_the_processor_does_bit_for_bit(place: Path, name: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    shown = [Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for _ in range(3)]
    shown[1] = shown[1].convert("L")
    processor = load_clip(str(place / name)).processor
    expected = processor(images=[each.convert("RGB") for each in shown], return_tensors="np")["pixel_values"]
    found = Prepared(processor)(shown)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    processor.do_normalize = False
    plain = processor(images=[each.convert("RGB") for each in shown], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(Prepared(processor)(shown), plain)


def test_pickscore_is_the_models_logit(place: Path) -> None:
    picks: Any = opened(place, "pickscore:clip")
    assert isinstance(picks, Reader)
    pixels = picks.processor(images=pictures(2), return_tensors="pt")["pixel_values"]
    tokens = picks.tokenizer(["a dog"], padding="max_length", max_length=20, return_tensors="pt")
    expected = picks.model(pixel_values=pixels, **tokens).logits_per_image.detach().numpy()
    scores = picks.scale * picks.encode_images(pictures(2)) @ picks.encode_texts(["a dog"])[0].T
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert picks.serves == ("pickscore",)


def test_the_prefix_must_be_what_the_model_is(place: Path) -> None:
    with pytest.raises(ModelError, match=r"is a 'siglip' model; it must be a CLIP model"):
        load(f"clip:{place / 'siglip'}")
    with pytest.raises(ModelError, match=r"is a 'clip' model; it must be one of dinov2"):
        load(f"dinov2:{place / 'clip'}")
    with pytest.raises(ModelError, match=r"is a 'clip' model; a captioner is one of blip$|blip\."):
        load(f"blip:{place / 'clip'}")
    assert load_clip(str(place / "siglip")).serves == ("clip", "features")  # a judge may be either


@pytest.mark.parametrize(("name", "words"), [
    ("clip", "must be KIND:WHICH"),
    ("dinvo2:x", "Did you mean dinov2"),
    ("clip:", "does not say which"),
    ("pixels:many", "pixels of a side, 1 to 1024"),
    ("pixels:0", "pixels of a side, 1 to 1024"),
    ("lpips:alxe", "Did you mean alex"),
    ("inception:./nowhere.pth", r"there is no file"),
    ("inception:auto", r"needs the package torch-fidelity: pip install 'brushwork\[inception\]'"),
    ("lpips:alex", r"needs the package lpips: pip install 'brushwork\[lpips\]'"),
    ("classifier:./nowhere", "is not a model folder"),
    ("external:no-such-program-anywhere", "cannot be started"),
])  # fmt: skip
def test_what_cannot_be_loaded_is_refused_in_clear_words(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3", "lpips"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises((ConfigError, ModelError), match=words):
        load(name)


def test_every_kind_is_on_the_page() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    assert [kind for kind in KINDS if f"`{kind}:`" not in page] == []
    assert split("external:python x.py --a b:c") == ("external", "python x.py --a b:c")


def test_a_wrong_end_of_text_token_is_refused_for_every_reader(tmp_path: Path) -> None:
    (picks,) = load(f"pickscore:{make_tiny_clip(tmp_path, eos_token_id=49407)}")
    assert isinstance(picks, Reader)
    with pytest.raises(ModelError, match="eos_token_id is 49407"):
        picks.encode_texts(["a dog", "a cat"])
    assert EOS_TRAP == 0.99999


def test_captions_are_words_and_where_a_clip_reads_them() -> None:
    from brushwork.captioners import MINI_CAPTIONER

    folder = MINI_CAPTIONER.parent / "datasets" / "engravings"
    shown = [Image.open(path) for path in sorted(folder.glob("*.png"))[:6]]
    captions, clip = Captions.load("mini-captioner"), load_clip("mini-clip")
    said = captions.encode_images(shown)
    assert said.tolist() == captions.captioner.describe(shown)
    both = CaptionTexts.of(captions, clip)
    np.testing.assert_allclose(both.encode_images(shown), clip.encode_texts(said.tolist())[0], atol=1e-6)
    assert (both.name, both.serves) == ("mini-captioner+mini-clip", ("caption_text",))


class Net:
    """What ``lpips.LPIPS`` has: a network of layers, a scaling, weights for each channel; and LPIPS by its formula."""

    def __init__(self, **asked: Any) -> None:
        import torch

        assert asked == {"net": "alex", "version": "0.1", "verbose": False}
        torch.manual_seed(0)
        self.weights = [torch.rand(1, channels, 1, 1) - 0.2 for channels in (3, 4)]
        self.convolution, self.L = torch.nn.Conv2d(3, 4, 3, stride=2), 2
        self.lins = [SimpleNamespace(model=[SimpleNamespace(weight=each)]) for each in self.weights]

    def scaling_layer(self, pixels: Any) -> Any:
        return pixels / 0.45

    def net(self, pixels: Any) -> Any:
        return [pixels, self.convolution(pixels).relu()]

    def state_dict(self) -> Any:
        return self.convolution.state_dict()

    def parameters(self) -> Any:
        return self.convolution.parameters()

    def eval(self) -> Net:
        return self

    def to(self, device: str) -> Net:
        assert device == "cpu"
        return self

    def distance(self, a: Any, b: Any) -> float:
        total = 0.0
        for weight, one, other in zip(
            self.weights, *(self.net(self.scaling_layer(each)) for each in (a, b)), strict=True
        ):
            units = [each / (each.square().sum(1, keepdim=True).sqrt() + 1e-10) for each in (one, other)]
            total += float((weight.clamp(min=0) * (units[0] - units[1]).square()).sum(1).mean().detach())
        return total


def test_the_squared_distance_of_lpips_features_is_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from brushwork.metrics.same_seed_lpips import distance

    package = ModuleType("lpips")
    package.LPIPS = Net  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", package)
    (encoder,) = load("lpips:alex")
    features = encoder.encode_images(pictures(3))
    tensors = [
        torch.from_numpy(np.asarray(each, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1 for each in pictures(3)
    ]
    net: Any = encoder
    expected = [net.model.distance(tensors[0], each) for each in tensors]
    np.testing.assert_allclose(distance(features[:1], features), expected, rtol=1e-4, atol=1e-9)
    assert distance(features, features).tolist() == [0.0, 0.0, 0.0]


def test_inception_gives_features_and_classes_from_torch_fidelitys_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    class Extractor(torch.nn.Module):
        def __init__(self, name: str, wanted: list[str], feature_extractor_weights_path: str | None) -> None:
            super().__init__()
            assert (name, wanted) == ("inception-v3-compat", ["2048", "logits_unbiased"])
            self.path, self.linear = feature_extractor_weights_path, torch.nn.Linear(3, 5)

        def forward(self, pixels: Any) -> Any:
            assert pixels.dtype == torch.uint8
            means = pixels.float().mean(dim=(2, 3))
            return means, self.linear(means / 255)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "weights.pth").write_bytes(b"")
    features, classes = load(f"inception:{tmp_path / 'weights.pth'}")
    means = np.stack([np.asarray(each).mean(axis=(0, 1)) for each in pictures()])
    np.testing.assert_allclose(features.encode_images(pictures()), means, rtol=1e-5)
    assert classes.encode_images(pictures()).sum(axis=1) == pytest.approx(np.ones(5), rel=1e-5)
    assert (features.serves, classes.serves) == (("inception", "features"), ("classes",))
    assert features.preprocessing != classes.preprocessing  # each has a store of its own
    mixed = [pictures(1)[0], pictures(1)[0].resize((20, 20))]
    assert features.encode_images(mixed).shape == (2, 3)


def test_pixels_are_the_picture_made_small() -> None:
    assert load("pixels:4")[0].encode_images(pictures(2)).shape == (2, 48)
    assert Pixels().preprocessing == "32x32-box"
    assert load("pixels:32")[0].serves == ("features",)  # the built-in one measures `change`


def test_technical_checks_of_known_pictures() -> None:
    half = Image.new("RGB", (8, 8), (10, 20, 30))
    half.paste((255, 20, 30), (0, 0, 8, 4))
    values = Technical().encode_images([Image.new("L", (9, 9), 255), Image.new("RGB", (2, 2), (9, 9, 9)), half])
    assert values[0].tolist() == [1.0, 0.0, 0.0]
    assert values[1].tolist() == [0.0, 0.0, 0.0]
    assert values[2, 0] == 0.5
    assert values[2, 1] == pytest.approx(122.5 / 255)


def test_sharpness_agrees_with_scipys_laplacian() -> None:
    from scipy.ndimage import laplace

    grey = np.random.default_rng(0).uniform(size=(30, 40))
    assert sharpness(grey) == pytest.approx(laplace(grey)[1:-1, 1:-1].var(), rel=1e-12)
    assert sharpness(grey) > sharpness(np.round(np.kron(grey[:6, :8], np.ones((5, 5))), 9))
