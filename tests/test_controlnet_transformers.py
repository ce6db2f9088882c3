"""ControlNets of transformers: the pictures that diffusers' own pipelines draw, single files, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_families
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_controls import DEEP, control_of, drawn_beside, make_control

from brushwork import families, generate
from brushwork.controlnet import Control, Network, layers, networks
from brushwork.errors import ConfigError, ModelError
from brushwork.generate import Request
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.values import Family

    Pixels = np.ndarray[Any, Any]

LAST_BITS = 1
STEPS = 4
PIPELINES = {
    "sd3": "StableDiffusion3ControlNetPipeline",
    "flux": "FluxControlNetPipeline",
    "qwen_image": "QwenImageControlNetPipeline",
    "sana": "SanaControlNetPipeline",
    "z_image": "ZImageControlNetPipeline",
}
every_family = pytest.mark.parametrize("name", PIPELINES)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    """Load a family with several layers."""
    root = tmp_path_factory.mktemp("families")
    known: dict[str, Family] = {}

    def family(name: str) -> Family:
        if name not in known:
            known[name] = families.load(str(tiny_families.make(name, root / name, **DEEP[name])))
        return known[name]

    return family


@pytest.fixture(autouse=True)
def _means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let diffusers' pipelines take the posterior's mean, as brushwork does, instead of a sample."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())  # noqa: ARG005


def photo(seed: int = 1, size: tuple[int, int] = (32, 32)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def drawn(family: Family, *requests: Request) -> list[Pixels]:
    return [np.asarray(each.image).astype(int) for each in generate.draw(family, requests)]


def asked(family: Family, seed: int = 3, **settings: Any) -> Request:
    sampler = family.sampling.sampler if family.sampling else "Euler"
    usual: dict[str, Any] = {"steps": STEPS, "guidance_scale": 3.5, "sampler": sampler, "width": 32, "height": 32}
    return Request("a cat", seed=seed, **{**usual, **settings})


def theirs(family: Family, network: Any, image: Any, request: Request, **settings: Any) -> Pixels:
    """Return what the family's ControlNet pipeline of diffusers draws."""
    import diffusers
    import torch

    scale = request.guidance_scale
    said: dict[str, Any] = {"guidance_scale": scale}
    if family.name == "qwen_image":
        said = {"true_cfg_scale": scale, "negative_prompt": request.negative_prompt}
    elif family.name == "z_image":
        said = {"guidance_scale": scale - 1}
    elif family.name == "sana":
        said |= {"use_resolution_binning": False}
    parts = {**family.pipeline().components, "controlnet": network}
    known = getattr(diffusers, PIPELINES[family.name])
    pipeline = known(**{key: part for key, part in parts.items() if key in _settings(known)})
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(request.seed)
    whole = pipeline(
        prompt=request.prompt, control_image=image, num_inference_steps=STEPS, height=32, width=32,
        generator=generator, **said, **settings,
    )  # fmt: skip
    return np.asarray(whole.images[0]).astype(int)


def _settings(known: Any) -> Any:
    import inspect

    return inspect.signature(known.__init__).parameters


def same(family: Family, network: Any, request: dict[str, Any], **settings: Any) -> None:
    """Check that both draw the same, and that the network has something to say."""
    image = photo()
    controlled = asked(family, controls=(Control(Network("edges", network), image, **request),))
    (ours,), (plain,) = drawn(family, controlled), drawn(family, asked(family))
    assert np.abs(ours - theirs(family, network, image, controlled, **settings)).max() <= LAST_BITS
    assert np.abs(ours - plain).max() > 5


@every_family
def test_it_is_what_diffusers_draws(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    same(family, control_of(family), {"weight": 0.7}, controlnet_conditioning_scale=0.7)


@pytest.mark.parametrize("name", ["sd3", "flux", "qwen_image"])
def test_it_steers_from_and_to_where_diffusers_does(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    span = {"control_guidance_start": 0.25, "control_guidance_end": 0.75}
    same(family, control_of(family), {"start": 0.25, "end": 0.75}, controlnet_conditioning_scale=1.0, **span)


def test_stabilitys_own_reads_no_text_and_has_the_bases_places(load: Callable[[str], Family]) -> None:
    family = load("sd3")
    shape = {"joint_attention_dim": None, "use_pos_embed": False, "force_zeros_for_pooled_projection": False}
    same(family, control_of(family, **shape, qk_norm=None, dual_attention_layers=()), {})


def test_a_union_is_told_which_sort_of_map_it_sees(load: Callable[[str], Family]) -> None:
    family = load("flux")
    network = control_of(family, num_mode=3)
    same(family, network, {"union": 2}, control_mode=2)
    controls = [(Control(Network("x", network), photo(), union=sort),) for sort in (0, 2)]
    first, third = drawn(family, *(asked(family, controls=each) for each in controls))
    assert not np.array_equal(first, third)
    for union, said in ((None, "a union of 3 sorts of maps; say which"), (3, "union=0 to union=2.*, not 3")):
        with pytest.raises(ConfigError, match=said):
            drawn(family, asked(family, controls=(Control(Network("x", network), photo(), union=union),)))
    with pytest.raises(ConfigError, match="for one sort of maps; leave union=1 out"):
        drawn(family, asked(family, controls=(Control(Network("x", control_of(family)), photo(), union=1),)))


def test_xlabs_sees_the_map_itself_and_speaks_to_the_blocks_in_turn(
    load: Callable[[str], Family], tmp_path: Path
) -> None:
    """Its hint block makes eight pixels a side one latent, so the base here has a deeper autoencoder than usual."""
    from tiny_encoders import vae

    pipeline = load("flux").pipeline()
    pipeline.vae = vae(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.36,
        shift_factor=0.1,
    )
    pipeline.save_pretrained(tmp_path / "deep")
    family = families.load(str(tmp_path / "deep"))
    shape = {"conditioning_embedding_channels": 4, "patch_size": 2}
    same(family, control_of(family, **shape, num_single_layers=0), {})
    with pytest.raises(ConfigError, match="pixels a side in a latent is 8, that of the base is 4"):
        networks.check(Network("x", control_of(load("flux"), **shape)), load("flux"))


def test_several_networks_add_up_as_in_diffusers(load: Callable[[str], Family]) -> None:
    from diffusers import FluxMultiControlNetModel

    family = load("flux")
    every, images, weights = [control_of(family), control_of(family, seed=1)], [photo(1), photo(2)], [0.6, 0.9]
    controls = tuple(
        Control(Network(str(weight), net), image, weight)
        for net, image, weight in zip(every, images, weights, strict=True)
    )
    request = asked(family, controls=controls)
    said = {"control_guidance_start": [0.0, 0.0], "control_guidance_end": [1.0, 1.0]}
    other = theirs(
        family, FluxMultiControlNetModel(every), images, request, controlnet_conditioning_scale=weights, **said
    )
    assert np.abs(drawn(family, request)[0] - other).max() <= LAST_BITS


def test_networks_of_other_depths_are_spread_before_they_are_added() -> None:
    """A pipeline of diffusers forgets the layers that only one of them has."""
    import torch

    one, two, three = (list(torch.randn(layers, 1, 2, 2).unbind(0)) for layers in (1, 2, 3))
    texts = Conditioning(layers.said("block", two))
    assert layers.added(texts, 5, {"block": layers.evenly}) == two, "as they are: diffusers spreads them itself"
    texts = texts.told(**layers.said("block", one)).told(**layers.said("turn", three))
    parts = {"block": layers.evenly, "turn": layers.in_turn}
    heard = layers.added(texts, 5, parts)
    assert heard is not None
    wanted = [one[0] + two[[0, 0, 0, 1, 1][layer]] + three[layer % 3] for layer in range(5)]
    assert all(torch.allclose(ours, other) for ours, other in zip(heard, wanted, strict=True))
    shares = [layers.by_share(layer, 2, 5) for layer in range(5)]
    assert shares == [int(layer / (5 / 2)) for layer in range(5)] == [0, 0, 0, 1, 1]
    assert layers.added(Conditioning({"states": one[0]}), 5, parts) is None


@every_family
def test_drawn_beside_others_it_is_the_picture_drawn_alone(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    first, second = (Network(str(seed), control_of(family, seed=seed)) for seed in (0, 1))
    requests = [
        asked(family, 1, controls=(Control(first, photo(1)),)),
        asked(family, 2),
        asked(family, 3, steps=5, controls=(Control(first, photo(2), 0.4, end=0.5), Control(second, photo(3)))),
        dataclasses.replace(
            asked(family, 4, guidance_scale=1.0, controls=(Control(first, photo(1)),)),
            prompt="an old mill by the river",
        ),
    ]
    for request, beside in zip(requests, drawn_beside(family, requests), strict=True):
        (alone,) = drawn(family, request)
        assert np.abs(beside - alone).max() <= LAST_BITS


@every_family
def test_a_folder_and_a_file_are_the_same_network(name: str, load: Callable[[str], Family], tmp_path: Path) -> None:
    family = load(name)
    changes = {"num_mode": 2, "guidance_embeds": True} if name == "flux" else {}
    folder = make_control(family, tmp_path / "edges", **changes)
    file = tmp_path / "single.safetensors"
    file.write_bytes((folder / networks.WEIGHTS[0]).read_bytes())
    one, two = (networks.load(each, family) for each in (folder, file))
    assert one.hash == two.hash != ""
    ours, others = one.module.state_dict(), two.module.state_dict()
    assert ours.keys() == others.keys()
    assert all(bool((ours[key] == value).all()) for key, value in others.items())
    union = {"union": 1} if name == "flux" else {}
    pictures = drawn(family, *(asked(family, controls=(Control(each, photo(), **union),)) for each in (one, two)))
    assert np.array_equal(*pictures)
    state = load_file(file)
    save_file({**state, "strange.weight": next(iter(state.values())).clone()}, file)
    with pytest.raises(ConfigError, match=r"has strange\.weight, which no"):
        networks.load(file, family)
    del state[min(key for key in state if "norm" in key)]
    save_file(state, file)
    with pytest.raises(ConfigError, match=r"is for another base than this one .*: it has no "):
        networks.load(file, family)


@pytest.mark.parametrize("trained", [False, True])
def test_the_second_version_of_z_images_is_read_from_its_file(
    load: Callable[[str], Family], tmp_path: Path, trained: bool
) -> None:
    """It has channels for inpainting, which are zeros here, and refines; 2.0 ships a refiner that was not trained."""
    family = load("z_image")
    shape = {"control_in_dim": 9, "add_control_noise_refiner": "control_noise_refiner"}
    whole = control_of(family, **shape)
    if not trained:
        whole.control_noise_refiner[0].before_proj.weight.data.zero_()
    save_file(dict(whole.state_dict()), tmp_path / "two.safetensors")
    network = networks.load(tmp_path / "two.safetensors", family)
    refines = "control_noise_refiner" if trained else "control_layers"
    assert network.config["add_control_noise_refiner"] == refines
    assert network.config["control_layers_places"] == [0, 2]
    same(family, network.module, {}, controlnet_conditioning_scale=1.0)


def test_a_network_that_shares_layers_follows_the_base_it_steers(load: Callable[[str], Family], tmp_path: Path) -> None:
    family = load("z_image")
    other = families.load(str(tiny_families.make("z_image", tmp_path / "other", seed=1, **DEEP["z_image"])))
    kept, fresh = (Network("x", control_of(family)) for _ in range(2))
    drawn(family, asked(family, controls=(Control(kept, photo()),)))
    ours, wanted = (drawn(other, asked(other, controls=(Control(each, photo()),)))[0] for each in (kept, fresh))
    assert np.array_equal(ours, wanted)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("sd3", {"in_channels": 8, "num_layers": 1}, r"its in_channels is 8, that of the base is 4"),
    ("sd3", {"extra_conditioning_channels": 1}, "sees 1 channels besides a map's"),
    ("sd3", {"joint_attention_dim": 40}, "joint_attention_dim is 40, that of the base is 80"),
    ("flux", {"num_attention_heads": 4}, "its width is 32, that of the base is 16"),
    ("qwen_image", {"extra_condition_channels": 4}, "sees 4 channels besides a map's"),
    ("sana", {"caption_channels": 24}, "its caption_channels is 24, that of the base is 16"),
    ("z_image", {"control_layers_places": [0, 9]}, "its last layer spoken to is 9, that of the base is 3"),
]


@pytest.mark.parametrize(("name", "changes", "said"), WRONG)
def test_a_network_for_another_base_is_refused_with_both_numbers(
    name: str, changes: dict[str, Any], said: str, load: Callable[[str], Family], tmp_path: Path
) -> None:
    family = load(name)
    with pytest.raises(ConfigError, match=said):
        networks.load(make_control(family, tmp_path / "other", **changes), family)


def test_what_a_family_cannot_follow_is_refused(load: Callable[[str], Family], tmp_path: Path) -> None:
    sd3, flux = load("sd3"), load("flux")
    control = Control(Network("edges", control_of(sd3)), photo(), mode="guess")
    with pytest.raises(ConfigError, match=r"the mode guess is for bases with a UNet; this one \(sd3\)"):
        drawn(sd3, asked(sd3, controls=(control,)))
    with pytest.raises(
        ConfigError, match=r"'edges' is a SD3ControlNetModel; this base \(flux\) takes a FluxControlNetModel"
    ):
        networks.check(control.network, flux)
    with pytest.raises(ModelError, match=r"'edges' is a SD3ControlNetModel; this base \(flux\)"):
        networks.load(make_control(sd3, tmp_path / "edges"), flux)
    small = Control(Network("edges", control_of(sd3, pos_embed_max_size=2)), photo())
    with pytest.raises(ConfigError, match="knows pictures to 16 pixels a side, but this one has 32"):
        drawn(sd3, asked(sd3, controls=(small,)))
    save_file(
        {"lora.up": next(iter(control_of(sd3).parameters())).detach().contiguous()}, tmp_path / "lora.safetensors"
    )
    with pytest.raises(
        ModelError, match="is no FluxControlNetModel in diffusers' names: it has no controlnet_x_embedder"
    ):
        networks.load(tmp_path / "lora.safetensors", flux)


def test_every_familys_class_is_known_to_the_catalogue() -> None:
    from brushwork.controlnet import CLASSES
    from brushwork.families import flux, qwen_image, sana, sd, sd3, sdxl, z_image

    known = [
        sd.StableDiffusion, sdxl.StableDiffusionXL, sd3.StableDiffusion3, flux.Flux, qwen_image.QwenImage, sana.Sana,
        z_image.ZImage,
    ]  # fmt: skip
    assert {name for each in known for name in each.control.classes} == set(CLASSES)
