"""Stable Diffusion: loading from everywhere, and arithmetic equal to diffusers' own pipeline."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from original import write_single_file

from brushwork import families
from brushwork.errors import ModelError
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from pathlib import Path


def test_text_states_equal_the_pipelines(tiny_sd: Path) -> None:
    family = families.load(str(tiny_sd))
    captions = ["a cat", "a very long caption " * 10, ""]
    theirs, _ = family.pipeline().encode_prompt(captions, "cpu", 1, do_classifier_free_guidance=False)
    with torch.no_grad():
        ours = family.encode_text(captions).tensors["states"]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_latents_equal_the_training_scripts(tiny_sd: Path) -> None:
    """vae.encode(pixels).latent_dist.sample() * scaling_factor, with the same noise."""
    family = families.load(str(tiny_sd))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        moments = family.encode_images(pixels)
        posterior = family.vae.encode(pixels).latent_dist  # type: ignore[operator]
    eps = torch.randn(moments.mean.shape, generator=torch.Generator().manual_seed(1))
    sampled = posterior.sample(generator=torch.Generator().manual_seed(1)) * family.vae.config.scaling_factor  # type: ignore[union-attr]
    torch.testing.assert_close(family.scale_latents(moments.mean + moments.std * eps), sampled)


def test_prediction_equals_the_unets(tiny_sd: Path) -> None:
    family = families.load(str(tiny_sd))
    latents, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    states = torch.randn(2, 77, 32)
    with torch.no_grad():
        ours = family.predict(latents, timesteps, Conditioning({"states": states}))
        theirs = family.denoiser(latents, timesteps, encoder_hidden_states=states).sample
    assert torch.equal(ours, theirs)


def test_what_the_base_is(tiny_sd: Path, tiny_sd_v: Path) -> None:
    epsilon, velocity = families.load(str(tiny_sd)), families.load(str(tiny_sd_v))
    assert (epsilon.prediction, velocity.prediction) == ("epsilon", "v_prediction")
    assert (epsilon.pixels_per_latent, epsilon.resolution) == (4, 32)
    assert epsilon.alphas_cumprod.shape == (1000,)
    assert epsilon.fingerprint == velocity.fingerprint  # the same weights, another objective
    assert not any(parameter.requires_grad for parameter in epsilon.denoiser.parameters())


def test_fingerprints_follow_the_weights(tiny_sd: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "copy")
    assert families.load(str(folder)).fingerprint == families.load(str(tiny_sd)).fingerprint
    family = families.load(str(folder))
    with torch.no_grad():
        next(family.vae.parameters()).add_(1e-3)
    family.save(tmp_path / "changed")
    changed = families.load(str(tmp_path / "changed"))
    assert changed.vae_fingerprint != family.vae_fingerprint
    assert changed.text_fingerprint == family.text_fingerprint


def test_a_saved_family_comes_back(tiny_sd_v: Path, tmp_path: Path) -> None:
    family = families.load(str(tiny_sd_v))
    family.save(tmp_path / "saved")
    again = families.load(str(tmp_path / "saved"))
    assert again.fingerprint == family.fingerprint
    assert again.prediction == "v_prediction"


def test_a_single_file_in_the_original_layout_is_the_same_model(tiny_sd: Path, tmp_path: Path) -> None:
    family = families.load(str(tiny_sd))
    path = write_single_file(family.pipeline(), tmp_path / "model.safetensors")
    loaded = families.load(str(path), config=str(tiny_sd))
    assert loaded.name == "sd"
    for name, tensor in family.denoiser.state_dict().items():
        assert torch.equal(loaded.denoiser.state_dict()[name], tensor), name
    for name, tensor in family.vae.state_dict().items():
        assert torch.equal(loaded.vae.state_dict()[name], tensor), name
    with torch.no_grad():
        ours, theirs = (each.encode_text(["a cat"]).tensors["states"] for each in (family, loaded))
    assert torch.equal(ours, theirs)


def test_a_single_file_without_configs_says_what_to_name(tiny_sd: Path, tmp_path: Path) -> None:
    path = write_single_file(families.load(str(tiny_sd)).pipeline(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="name a diffusers folder of the same architecture as base_config"):
        families.load(str(path))


def test_a_half_precision_base(tiny_sd: Path) -> None:
    family = families.load(str(tiny_sd), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in family.denoiser.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ModelError, match="can run code when they are opened"):
        families.load(str(tmp_path / name))
    assert not (tmp_path / "owned").exists()


def test_a_folder_with_pickled_weights_only_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="is incomplete"):
        families.load(str(folder))


def test_code_in_a_model_folder_is_not_run(tiny_sd: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "hostile")
    (folder / "pipeline.py").write_text("raise SystemExit('ran')")
    (folder / "unet" / "evil.py").write_text("raise SystemExit('ran')")
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["evil", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert families.load(str(folder)).name == "sd"


def test_an_unknown_architecture_is_named(tiny_sd: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "other")
    (folder / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    with pytest.raises(ModelError, match="OtherPipeline"):
        families.load(str(folder))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("./nothing-here", "no folder or file"),
        ("minni", "Did you mean mini"),
        ("owner/name", "fetching it failed"),
        ("model.safetensors", "no folder or file"),
    ],
)
def test_a_base_that_is_not_there(base: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        families.load(base)


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no model_index\.json.*photo\.png"):
        families.load(str(tmp_path))


def test_a_damaged_single_file(tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(b'\x10\0\0\0\0\0\0\0{"a":')
    with pytest.raises(ModelError, match="not a readable"):
        families.load(str(tmp_path / "half.safetensors"))
