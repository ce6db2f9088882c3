"""ControlNets: the pictures that diffusers' own pipelines draw, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_families
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import make_tiny_sd
from tiny_controls import control_of, drawn_beside, make_control

from brushwork import controlnet, families, generate, samplers
from brushwork.cli import run
from brushwork.controlnet import Control, Module, Network, maps, networks, unet
from brushwork.controlnet.steering import Asked, Look, residuals
from brushwork.errors import ConfigError, ModelError
from brushwork.formats.ldm import rename
from brushwork.generate import Request
from brushwork.hires import Hires

if TYPE_CHECKING:
    from pathlib import Path

LAST_BITS = 1


@pytest.fixture(scope="module")
def family(tiny_sd: Path) -> Any:
    return families.load(str(tiny_sd))


@pytest.fixture(scope="module")
def network(family: Any) -> Network:
    return Network("edges", control_of(family), "0123abcd")


def noise_picture(seed: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def drawn(family: Any, *requests: Request) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.asarray(each.image).astype(int) for each in generate.draw(family, requests)]


def theirs(family: Any, pipeline: str, network: Any, seeds: tuple[int, ...], **settings: Any) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Return what a pipeline of diffusers draws, each picture by itself."""
    import diffusers
    import torch

    parts = {**family.pipeline().components, "controlnet": network}
    more = {"requires_safety_checker": False} if "XL" not in pipeline else {"add_watermarker": False}
    whole = getattr(diffusers, pipeline)(**parts, **more)
    whole.set_progress_bar_config(disable=True)
    pictures = []
    for seed in seeds:
        whole.scheduler = samplers.build(samplers.resolve("DDIM"), family.scheduler_config)
        generator = torch.Generator().manual_seed(seed)
        pictures += whole("a cat", generator=generator, num_inference_steps=5, **settings).images
    return [np.asarray(each).astype(int) for each in pictures]


def asked(seed: int = 0, **settings: Any) -> Request:
    usual: dict[str, Any] = {"steps": 5, "guidance_scale": 5.0, "sampler": "DDIM"}
    return Request("a cat", seed=seed, **{**usual, **settings})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, {}),
        ({"weight": 0.5}, {"controlnet_conditioning_scale": 0.5}),
        ({"start": 0.2, "end": 0.7}, {"control_guidance_start": 0.2, "control_guidance_end": 0.7}),
        ({"mode": "guess"}, {"guess_mode": True}),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_it_is_bit_for_bit_what_diffusers_draws(
    family: Any, network: Network, given: dict[str, Any], said: dict[str, Any], guidance: float
) -> None:
    image = noise_picture(1)
    ours = drawn(
        family, *(asked(seed, guidance_scale=guidance, controls=(Control(network, image, **given),)) for seed in (3, 4))
    )
    pipeline, more = "StableDiffusionControlNetPipeline", {"guidance_scale": guidance, **said}
    others = theirs(family, pipeline, network.module, (3, 4), image=image, **more)
    for one, other in zip(ours, others, strict=True):
        assert np.abs(one - other).max() <= LAST_BITS
    (plain,) = drawn(family, asked(3, guidance_scale=guidance))
    assert np.abs(ours[0] - plain).max() > 10, "the network has something to say"


def test_several_networks_add_up_as_in_diffusers(family: Any, network: Network) -> None:
    from diffusers import MultiControlNetModel

    second, images = Network("depth", control_of(family, seed=1)), [noise_picture(1), noise_picture(2)]
    controls = (Control(network, images[0], 0.6), Control(second, images[1], 0.9, end=0.5))
    (ours,) = drawn(family, asked(3, controls=controls))
    both = MultiControlNetModel([network.module, second.module])
    said = {
        "controlnet_conditioning_scale": [0.6, 0.9],
        "control_guidance_start": [0.0, 0.0],
        "control_guidance_end": [1.0, 0.5],
    }
    (other,) = theirs(family, "StableDiffusionControlNetPipeline", both, (3,), image=images, guidance_scale=5.0, **said)
    assert np.abs(ours - other).max() <= LAST_BITS


def test_from_a_picture_it_is_what_diffusers_draws(family: Any, network: Network) -> None:
    image, init = noise_picture(1), noise_picture(2)
    (ours,) = drawn(family, asked(3, init=init, strength=0.6, controls=(Control(network, image),)))
    (other,) = theirs(
        family, "StableDiffusionControlNetImg2ImgPipeline", network.module, (3,), image=init, control_image=image,
        strength=0.6, guidance_scale=5.0, controlnet_conditioning_scale=1.0,
    )  # fmt: skip
    assert np.abs(ours - other).max() <= LAST_BITS


@pytest.mark.parametrize("mode", ["balanced", "guess"])
def test_sdxl_is_what_diffusers_draws(tmp_path: Path, mode: Any) -> None:
    family = families.load(str(tiny_families.make("sdxl", tmp_path / "sdxl")))
    network, image = control_of(family), noise_picture(1)
    (ours,) = drawn(
        family, asked(3, negative_prompt="a dog", controls=(Control(Network("x", network), image, mode=mode),))
    )
    (other,) = theirs(
        family, "StableDiffusionXLControlNetPipeline", network, (3,), image=image, negative_prompt="a dog",
        guidance_scale=5.0, controlnet_conditioning_scale=1.0, guess_mode=mode == "guess",
    )  # fmt: skip
    assert np.abs(ours - other).max() <= LAST_BITS


@pytest.mark.parametrize("mode", ["prompt", "control"])
def test_in_the_soft_modes_of_a1111_early_layers_count_less(family: Any, network: Network, mode: Any) -> None:
    """The tiny network speaks to four skip connections and the middle: 0.825^12 to 0.825^8."""
    import torch

    texts = family.encode_text(["", "a cat"])
    look = Look(torch.randn(2, 4, 8, 8), torch.tensor([500, 500]), texts)

    def said(mode: Any) -> list[torch.Tensor]:
        control = Control(network, noise_picture(), 0.5, mode=mode)
        with torch.no_grad():
            (told,) = residuals(family, [look], [Asked(0, control, torch.rand(1, 3, 32, 32).fill_(0.3))])
        return [value for name, value in told.tensors.items() if name.startswith("residual")]

    for place, (soft, plain) in enumerate(zip(said(mode), said("balanced"), strict=True)):
        wanted = plain * 0.825 ** (12 - place)
        assert torch.allclose(soft[1], wanted[1], atol=1e-6)
        assert torch.allclose(soft[0], wanted[0] * (mode == "prompt"), atol=1e-6)


def test_a_weight_of_0_is_no_controlnet(family: Any, network: Network) -> None:
    without, with_it = drawn(family, asked(3), asked(3, controls=(Control(network, noise_picture(1), weight=0),)))
    assert np.array_equal(without, with_it)


def test_drawn_beside_others_it_is_the_picture_drawn_alone(family: Any, network: Network) -> None:
    second = Network("depth", control_of(family, seed=1))
    requests = [
        asked(1, controls=(Control(network, noise_picture(1)),)),
        asked(2),
        asked(3, steps=7, guidance_scale=1.0, controls=(Control(network, noise_picture(2), 0.4, end=0.5),)),
        asked(4, controls=(Control(second, noise_picture(3), mode="guess"), Control(network, noise_picture(1)))),
    ]
    for request, beside in zip(requests, drawn_beside(family, requests), strict=True):
        (alone,) = drawn(family, request)
        assert np.abs(beside - alone).max() <= LAST_BITS


def test_the_second_pass_sees_the_map_at_its_own_size(family: Any, network: Network) -> None:
    """Nearest makes the second pass an img2img of the enlarged first picture, which is drawn here by itself."""
    image = noise_picture(1, (64, 64))
    hires = Hires(scale=2, upscaler="Nearest", strength=0.6)
    controls = (Control(network, image),)
    whole, small = drawn(family, asked(3, hires=hires, controls=controls), asked(3, controls=controls))
    large = Image.fromarray(small.astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
    (second,) = drawn(family, asked(3, width=64, height=64, init=large, strength=0.6, controls=controls))
    assert np.abs(whole - second).max() <= LAST_BITS
    shrunk = (Control(network, image.resize((32, 32), Image.Resampling.LANCZOS)),)
    assert (
        np.abs(
            second - drawn(family, asked(3, width=64, height=64, init=large, strength=0.6, controls=shrunk))[0]
        ).max()
        > LAST_BITS
    )


def test_in_a_tiling_picture_the_network_knows_no_edges(family: Any, network: Network) -> None:
    """What it says of a map and latents that were moved round a torus is what it said, moved."""
    import torch

    texts = family.encode_text(["a cat"])
    latents, seen = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 32, 32)
    control = Control(network, noise_picture())

    def said(by: int, *, tiling: bool) -> Any:
        look = Look(latents.roll(by, 3), torch.tensor([500]), texts)
        asked = Asked(0, control, seen.roll(4 * by, 3), tiling)
        with torch.no_grad():
            return residuals(family, [look], [asked])[0].tensors["residual_0"]

    assert torch.allclose(said(2, tiling=True), said(0, tiling=True).roll(2, 3), atol=1e-4)
    assert not torch.allclose(said(2, tiling=False), said(0, tiling=False).roll(2, 3), atol=1e-4)


def test_only_the_part_of_the_map_under_the_box_is_seen() -> None:
    from brushwork import inpaint

    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 32))
    seen = Image.new("RGB", (64, 64), "black")
    seen.paste((255, 255, 255), (32, 0, 64, 32))
    request = asked(init=noise_picture(1, (64, 64)), mask=mask, only_masked_padding=0, width=32, height=32)
    view = inpaint.look(request)
    assert view.box == (32, 0, 64, 32)
    assert maps.tensor(seen, Module(), "crop", (32, 32), view).min() == 1
    assert maps.tensor(seen, Module(), "crop", (32, 32)).min() == 0


def test_a_folder_and_both_kinds_of_files_are_the_same_network(family: Any, tmp_path: Path) -> None:
    folder = make_control(family, tmp_path / "edges")
    file = tmp_path / "single.safetensors"
    file.write_bytes((folder / networks.WEIGHTS[0]).read_bytes())
    opened = [networks.load(each, family) for each in (folder, file)]
    assert [each.name for each in opened] == ["edges", "single"]
    assert opened[0].hash == opened[1].hash != ""
    one, two = (dict(each.module.state_dict()) for each in opened)
    assert one.keys() == two.keys()
    assert all(bool((one[name] == two[name]).all()) for name in one)
    half = tmp_path / "half"
    half.mkdir()
    (folder / networks.WEIGHTS[0]).rename(half / networks.WEIGHTS[1])
    (half / "config.json").write_text((folder / "config.json").read_text())
    assert networks.load(half, family).hash == opened[0].hash


def test_the_names_of_the_papers_code_are_read_as_diffusers_reads_them(family: Any, tmp_path: Path) -> None:
    """Its own converter knows files of the full size only, whose map goes through eight layers."""
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    module = control_of(family, conditioning_embedding_out_channels=(4, 8, 8, 8))
    state, names = module.state_dict(), unet.original_names(module)
    hints = {"conv_in": 0, "conv_out": 14, **{f"blocks.{place}": 2 * place + 2 for place in range(6)}}
    names |= {f"{unet.EMBEDDING}.{ours}": f"input_hint_block.{place}" for ours, place in hints.items()}
    original = {rename(key, names): value for key, value in state.items()}
    assert None not in original
    read = convert_controlnet_checkpoint(original, dict(module.config))
    assert read.keys() == state.keys()
    assert all(read[key] is original[rename(key, names)] for key in state)

    small = make_control(family, tmp_path / "edges")
    ours = load_file(small / networks.WEIGHTS[0])
    hints = {"conv_in": 0, "conv_out": 10, **{f"blocks.{place}": 2 * place + 2 for place in range(4)}}
    names |= {f"{unet.EMBEDDING}.{each}": f"input_hint_block.{place}" for each, place in hints.items()}
    save_file(
        {f"control_model.{rename(key, names)}": value for key, value in ours.items()},
        tmp_path / "x.safetensors",
    )
    opened = networks.load(tmp_path / "x.safetensors", family).module.state_dict()
    assert all(bool((opened[key] == value).all()) for key, value in ours.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cross_attention_dim": 48}, r"cross_attention_dim is 48, that of the base is 32"),
        ({"in_channels": 9}, r"in_channels is 9, that of the base is 4"),
        ({"block_out_channels": (8, 24), "norm_num_groups": 4}, r"block_out_channels is \[8, 24\].*\[8, 16\]"),
        ({"conditioning_channels": 6}, r"sees maps of 6 channels, but a picture has 3"),
        ({"conditioning_embedding_out_channels": (4, 8, 8, 8)}, r"sees 8 pixels a side as one latent.*are 4"),
    ],
)
def test_a_network_for_another_base_is_refused_with_both_numbers(
    family: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = make_control(family, tmp_path / "other", **changes)
    with pytest.raises(ConfigError, match=said):
        networks.load(folder, family)


def test_a_file_for_another_base_is_refused(family: Any, tmp_path: Path) -> None:
    wide = families.load(str(make_tiny_sd(tmp_path / "wide", block_out_channels=(16, 32))))
    folder = make_control(wide, tmp_path / "edges")
    file = (folder / networks.WEIGHTS[0]).rename(tmp_path / "edges.safetensors")
    with pytest.raises(ConfigError, match=r"for another base.*of the shape \(.*\), not \("):
        networks.load(file, family)


def test_what_is_no_controlnet_is_refused(family: Any, tiny_sd: Path, tmp_path: Path) -> None:
    import torch

    with pytest.raises(ModelError, match=r"is a UNet2DConditionModel; this base \(sd\) takes a ControlNetModel"):
        networks.load(tiny_sd / "unet", family)
    with pytest.raises(ModelError, match=r"has no diffusion_pytorch_model\.safetensors"):
        networks.load(tiny_sd, family)
    save_file({"lora.up": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match="is no ControlNet: it has no layers for a map"):
        networks.load(tmp_path / "lora.safetensors", family)
    (tmp_path / "controlnet" / "canny").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"there is no 'cany'.*canny"):
        networks.find("cany", tmp_path / "controlnet")


def test_a_base_that_takes_none_says_so(network: Network, tmp_path: Path) -> None:
    family = families.load(str(tiny_families.make("flux2", tmp_path / "flux2")))
    with pytest.raises(ConfigError, match=r"this base \(flux2\) takes none"):
        generate.fitted(family, Request("a", controls=(Control(network, noise_picture()),)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight": -0.1}, r"weight -0\.1 is not from 0 to 2"),
        ({"start": 0.5, "end": 0.5}, r"from 0\.5 to 0\.5"),
        ({"mode": "gues"}, "no mode 'gues'"),
        ({"resize_mode": "pad"}, "no resize_mode 'pad'"),
    ],
)
def test_what_means_nothing_is_refused(network: Network, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Control(network, noise_picture(), **given)
    with pytest.raises(ConfigError, match="no module 'depth'"):
        Module("depth")  # type: ignore[arg-type]


def test_the_infotext_is_the_extensions_and_is_read_back(family: Any, network: Network) -> None:
    control = Control(
        network, noise_picture(1), 0.5, 0.1, 0.9, resize_mode="fill", module=Module("canny", None, 50, 90)
    )
    picture = next(generate.draw(family, [asked(3, steps=1, controls=(control,))]))
    from brushwork import infotext

    unit = infotext.parse(picture.infotext).fields["ControlNet 0"]
    assert unit == (
        "Module: canny, Model: edges [0123abcd], Weight: 0.5, Resize Mode: Resize and Fill, Threshold A: 50.0, "
        "Threshold B: 90.0, Guidance Start: 0.1, Guidance End: 0.9, Pixel Perfect: True, Control Mode: Balanced"
    )
    read = controlnet.parse(unit)
    assert read == {
        "module": "canny", "model": "edges", "weight": 0.5, "guidance_start": 0.1, "guidance_end": 0.9, "low": 50.0,
        "high": 90.0, "resize_mode": "fill", "mode": "balanced",
    }  # fmt: skip
    assert picture.provenance["request"]["controls"][0]["network"] == "edges"
    old = "preprocessor: canny, model: edges [0123abcd], weight: 1, starting/ending: (0, 0.5), resize mode: Just Resize"
    assert controlnet.parse(old) == {
        "module": "canny", "model": "edges", "weight": 1.0, "guidance_start": 0.0, "guidance_end": 0.5,
        "resize_mode": "stretch",
    }  # fmt: skip


def test_maps_are_opencvs_edges_and_pils_negative() -> None:
    cv2 = pytest.importorskip("cv2")
    photo = noise_picture(1, (64, 48))
    edges = np.asarray(maps.make(photo, Module("canny", 48, 80, 160), "crop", None))
    assert np.array_equal(edges[..., 0], cv2.Canny(np.array(photo), 80, 160))
    assert set(np.unique(edges)) == {0, 255}
    assert np.array_equal(np.asarray(maps.make(photo, Module("invert"), "crop", None)), 255 - np.asarray(photo))
    assert maps.make(photo, Module("canny", 24), "crop", None).size == (32, 24)
    assert maps.make(photo, Module("canny", None), "crop", (32, 32)).size == (32, 32)


def test_resize_modes() -> None:
    """A red picture with a white left half, twice as wide as high."""
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste((255, 255, 255), (0, 0, 8, 32))
    sides = {mode: np.asarray(maps.fitted(wide, mode, (32, 32))) for mode in maps.RESIZE_MODES}
    assert tuple(sides["stretch"][16, 0]) == (255, 255, 255)
    assert tuple(sides["crop"][16, 0]) == (255, 0, 0), "the left quarter is cut off"
    assert tuple(sides["fill"][0, 0]) == (255, 0, 0), "margins in the border's median colour"
    assert tuple(sides["fill"][16, 0]) == (255, 255, 255)
    square = noise_picture(2)
    assert all(np.array_equal(maps.fitted(square, mode, (32, 32)), square) for mode in maps.RESIZE_MODES)


def test_without_opencv_canny_is_refused_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"brushwork\[data\]"):
        maps.make(noise_picture(), Module("canny"), "crop", None)


def test_fields_of_a_request_without_controls_are_as_before(family: Any) -> None:
    picture = next(generate.draw(family, [asked(steps=1)]))
    assert "controls" not in picture.provenance["request"]
    assert dataclasses.asdict(picture.request)["controls"] == ()


def test_from_the_command_line(family: Any, tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def generated(*words: object) -> int:
        common = ["--steps", "2", "--device", "cpu", "--out", tmp_path / "out", "--json"]
        return run(["generate", str(tiny_sd), "a cat", *map(str, [*words, *common])])

    folder, photo = make_control(family, tmp_path / "controlnet" / "edges"), tmp_path / "photo.png"
    noise_picture(1).save(photo)
    steered = ("--controlnet", folder, "--control-image", photo)
    assert generated(*steered, "--control-weight", 0.5, "--control-end", 0.7) == 0
    (told,) = json.loads(capsys.readouterr().out)
    (control,) = told["request"]["controls"]
    assert (control["network"], control["weight"], control["end"]) == ("edges", 0.5, 0.7)
    assert "Module: none, Model: edges [" in told["infotext"]
    assert generated("--controlnet", folder) == 2
    assert "--control-image: 0 for 1 --controlnet" in capsys.readouterr().err
    assert generated("--controlnet", "edgs", "--control-image", photo) == 2
    assert "there is no 'edgs'" in capsys.readouterr().err
    assert generated(*steered, "--control-weight", 3) == 2
    assert "3.0 is not in the range 0<=x<=2" in capsys.readouterr().err
    assert generated(*steered, "--control-start", 0.7, "--control-end", 0.7) == 2
    assert "it cannot steer from 0.7 to 0.7" in capsys.readouterr().err
    assert generated("--controlnet", folder, "--control-image", tmp_path / "none.png") == 2
