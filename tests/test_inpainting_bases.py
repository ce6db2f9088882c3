"""Bases of nine channels on disk and in use: folders, single files, adapters, exports, and what is refused of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_families
import torch
from original import write_single_file
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import make_tiny_sd
from tiny_controls import make_control
from tiny_parts import make_lora

from brushwork import adapters, api, config, families, generate, infotext, models
from brushwork.cli import run
from brushwork.compare.drawers import Drawer
from brushwork.controlnet import networks
from brushwork.errors import ConfigError, ModelError
from brushwork.evaluate.predicted import _Levels, _predict
from brushwork.formats import single_file
from brushwork.serve.catalogue import Catalogue
from brushwork.serve.settings import ServeConfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with the class that published ones name."""
    folder = make_tiny_sd(tmp_path_factory.mktemp("bases") / "nine", in_channels=9)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionInpaintPipeline"}))
    return folder


def state(module: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_folder_is_read_and_written_as_diffusers_own(nine: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionInpaintPipeline

    family = families.load(str(nine))
    assert family.name == "sd"
    family.save(tmp_path / "again")
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "again")
    assert same(state(pipeline.unet), state(family.denoiser))
    large = families.load(str(tiny_families.make("sdxl", tmp_path / "xl", in_channels=9)))
    large.save(tmp_path / "xl-again")
    index = json.loads((tmp_path / "xl-again" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLInpaintPipeline"
    assert families.load(str(tmp_path / "xl-again")).fingerprint == large.fingerprint


def test_a_plain_model_saved_as_an_inpainting_pipeline_is_a_plain_model(tiny_sd: Path, tmp_path: Path) -> None:
    folder = make_tiny_sd(tmp_path / "plain")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionInpaintPipeline"}))
    family: Any = families.load(str(folder))
    assert family.inference_only is None
    assert type(family.pipeline()).__name__ == "StableDiffusionPipeline"
    assert family.fingerprint == families.load(str(tiny_sd)).fingerprint


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_single_file_is_known_by_its_first_convolution(nine: Path, tiny_sd: Path, tmp_path: Path, name: str) -> None:
    """The configs may be those of the plain base that it was made from."""
    if name == "sd":
        family, beside = families.load(str(nine)), [tiny_sd, nine]
        file = write_single_file(family.pipeline(), tmp_path / "nine.safetensors")
    else:
        beside = [tiny_families.make("sdxl", tmp_path / f"xl{number}", in_channels=number) for number in (4, 9)]
        family, file = families.load(str(beside[1])), tmp_path / "nine.safetensors"
        save_file(single_file.write({"unet": family.denoiser, "vae": family.vae, **family.text_encoders}), file)
    for folder in beside:
        again = families.load(str(file), config=str(folder))
        assert again.fingerprint == family.fingerprint
        assert again.denoiser.config["in_channels"] == 9  # type: ignore[index]


@pytest.mark.parametrize("method", ["full", "lora", "textual-inversion", "dreambooth-lora"])
def test_training_is_refused_before_anything_is_written(
    nine: Path, tiny_data: Path, tmp_path: Path, method: str, capsys: Any
) -> None:
    more = {
        "textual-inversion": ["method.token=<x>", "method.initial_word=a"],
        "dreambooth-lora": ["data.instance_prompt=a sks thing"],
    }
    words = ["train", "--base", str(nine), "--data", str(tiny_data), "--method", method, "--steps", "1"]
    assert run([*words, "--out", str(tmp_path / "run"), *more.get(method, [])]) == 2
    assert "cannot be trained: its UNet sees a mask" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_forecast_is_refused_likewise(nine: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be trained: its UNet sees a mask"):
        api.plan(config.load(method="lora", base=str(nine), data=str(tiny_data)))


def test_a_lora_of_the_plain_base_is_drawn_with(nine: Path, tiny_sd: Path, tmp_path: Path) -> None:
    file = make_lora(tiny_sd, tmp_path / "lora", rank=4)
    plain, with_it = (models.open_model(text, device="cpu") for text in (str(nine), f"{nine}+{file}"))
    assert with_it.adapters[0].layers == models.open_model(f"{tiny_sd}+{file}", device="cpu").adapters[0].layers > 0
    pictures = [next(generate.draw(each.family, [generate.Request("a", steps=2)])).image for each in (plain, with_it)]
    assert np.abs(np.asarray(pictures[0], int) - np.asarray(pictures[1], int)).max() > 1


@pytest.mark.parametrize("kind", ["plain", "core", "loha"])
def test_an_update_of_the_first_convolution_reaches_the_four_noisy_channels(
    nine: Path, tmp_path: Path, kind: str
) -> None:
    normal = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=normal)

    if kind == "loha":
        sides = {
            f"hada_w{number}_{side}": shape for number in (1, 2) for side, shape in (("a", (8, 2)), ("b", (2, 36)))
        }
        tensors = {f"lora_unet_conv_in.{role}": drawn(*shape) for role, shape in sides.items()}
        halves = [
            tensors[f"lora_unet_conv_in.hada_w{number}_a"] @ tensors[f"lora_unet_conv_in.hada_w{number}_b"]
            for number in (1, 2)
        ]
        expected = (halves[0] * halves[1]).reshape(8, 4, 3, 3)
    elif kind == "core":
        up, mid, down = drawn(8, 2, 1, 1), drawn(2, 2, 3, 3), drawn(2, 4, 1, 1)
        roles = {"lora_up": up, "lora_mid": mid, "lora_down": down}
        tensors = {f"lora_unet_conv_in.{role}.weight": each for role, each in roles.items()}
        expected = torch.einsum("im,mnkl,nj->ijkl", up[..., 0, 0], mid, down[..., 0, 0])
    else:
        up, down = drawn(8, 2, 1, 1), drawn(2, 4, 3, 3)
        tensors = {"lora_unet_conv_in.lora_up.weight": up, "lora_unet_conv_in.lora_down.weight": down}
        expected = torch.einsum("im,mjkl->ijkl", up[..., 0, 0], down)
    tensors["lora_unet_conv_in.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "first.safetensors")
    family = families.load(str(nine))
    before = state(family.denoiser)["conv_in.weight"]
    adapters.attach(family, tmp_path / "first.safetensors", "first", 0.5)
    layer: Any = family.denoiser.get_submodule("conv_in")
    if hasattr(layer, "merge"):
        layer.merge()
        layer = layer.base_layer
    change = (layer.weight - before).detach()
    assert torch.allclose(change[:, :4], 0.5 * expected, atol=1e-5)
    assert bool((change[:, 4:] == 0).all())


def test_an_update_of_other_channels_is_refused(nine: Path, tmp_path: Path) -> None:
    tensors = {"lora_unet_conv_in.lora_up.weight": torch.ones(8, 2, 1, 1)}
    save_file(tensors | {"lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 5, 5)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"unet\.conv_in is 8x4x5x5 in it and 8x9x3x3 in this base"):
        adapters.attach(families.load(str(nine)), tmp_path / "x.safetensors", "x", 1.0)


def test_it_is_exported_with_its_channels(nine: Path, tiny_sd: Path, tmp_path: Path, capsys: Any) -> None:
    lora = make_lora(tiny_sd, tmp_path / "lora", rank=2)
    for target, out in (("single-file", "whole.safetensors"), ("diffusers", "folder")):
        words = ["export", f"{nine}+{lora}", "--merge", "--to", target, "--out", str(tmp_path / out)]
        assert run(words) == 0, capsys.readouterr().err
    merged = families.load(str(tmp_path / "folder"))
    first = load_file(tmp_path / "whole.safetensors")["model.diffusion_model.input_blocks.0.0.weight"]
    assert torch.equal(first, state(merged.denoiser)["conv_in.weight"])
    assert first.shape[1] == 9
    with safe_open(tmp_path / "whole.safetensors", framework="pt") as file:
        assert file.metadata()["modelspec.architecture"] == "stable-diffusion-v1/inpaint"


def test_controlnets_of_the_plain_base_fit(nine: Path, tiny_sd: Path, tmp_path: Path) -> None:
    """A folder, and a file, whose shape is that of the base's encoder but for the channels besides."""
    folder = make_control(families.load(str(tiny_sd)), tmp_path / "edges")
    family = families.load(str(nine))
    from_folder = state(networks.load(folder, family).module)
    file = (folder / networks.WEIGHTS[0]).rename(tmp_path / "edges.safetensors")
    assert same(state(networks.load(file, family).module), from_folder)
    wide = make_control(family, tmp_path / "wide", in_channels=9)
    with pytest.raises(ConfigError, match="in_channels is 9, that of the base is 4"):
        networks.load(wide, family)


def test_noise_drift_asks_it_as_when_all_is_masked(nine: Path) -> None:
    family = families.load(str(nine))
    noisy = torch.randn((2, 4, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    assert _predict(family, ["a", "b"], noisy, _Levels.of(family)).shape == noisy.shape


def test_the_command_draws_with_it_and_says_so(nine: Path, tiny_sd: Path, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "white.png")
    start = ["--init", str(tmp_path / "red.png"), "--mask", str(tmp_path / "white.png"), "--steps", "2"]
    words = [*start, "--mask-strength", "0.5", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(["generate", str(nine), "a", *words]) == 0
    assert infotext.read_png(tmp_path / "out" / "00000-0.png").fields["Conditional mask weight"] == "0.5"
    capsys.readouterr()
    assert run(["generate", str(tiny_sd), "a", *words]) == 2
    assert "mask_strength: 0.5 is for inpainting bases" in capsys.readouterr().err
    assert run(["generate", str(nine), "a", *start, "--mask-strength", "1.5"]) == 2


def test_the_catalogue_knows_them(nine: Path, tiny_sd: Path, tmp_path: Path) -> None:
    write_single_file(families.load(str(nine)).pipeline(), nine.parent / "file.safetensors")
    there = Catalogue(ServeConfig(models=(nine.parent,), runs=tmp_path / "runs")).all("model")
    assert {each.name: each.inpainting for each in there} == {"mini": False, "nine": True, "file": True}
    plain = Catalogue(ServeConfig(models=(tiny_sd,), runs=tmp_path / "runs")).all("model")
    assert [each.inpainting for each in plain] == [False, False]


def test_it_starts_from_the_noise_of_the_plain_base(nine: Path, tiny_sd: Path) -> None:
    """So a comparison pairs the two by seed."""
    request = generate.Request("a", width=32, height=32)
    noises = {Drawer(models.open_model(str(each), device="cpu")).noise(request) for each in (nine, tiny_sd)}
    assert noises == {"4x8x8"}
