"""Bases whose UNet sees nine channels: the pictures of diffusers' own inpainting pipelines, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_families
import torch
from PIL import Image
from tiny import make_tiny_sd
from tiny_controls import control_of, drawn_beside

from brushwork import canvas, denoise, families, generate, infotext, mask_channels, samplers
from brushwork.controlnet import Control, Network
from brushwork.errors import ConfigError, ModelError
from brushwork.generate import Request
from brushwork.hires import Hires

if TYPE_CHECKING:
    from pathlib import Path

LAST_BITS = 1
MAKERS: dict[str, Any] = {"sd": make_tiny_sd, "sdxl": lambda folder, **unet: tiny_families.make("sdxl", folder, **unet)}
PIPELINES = {"sd": "StableDiffusionInpaintPipeline", "sdxl": "StableDiffusionXLInpaintPipeline"}


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what gives a tiny base of nine channels by its family's name."""
    root, known = tmp_path_factory.mktemp("nine"), {}

    def base(name: str) -> Any:
        if name not in known:
            known[name] = families.load(str(MAKERS[name](root / name, in_channels=9)))
            with torch.no_grad():  # what it sees besides shall matter, or no test could tell
                known[name].denoiser.conv_in.weight[:, 4:] *= 30
            for norm in known[name].vae.modules():  # of one channel each, they divide the rounding of a grey picture
                if isinstance(norm, torch.nn.GroupNorm):
                    norm.num_groups = 1
        return known[name]

    return base


def scene(seed: int = 0, size: tuple[int, int] = (32, 32)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def hole(box: tuple[int, int, int, int] = (6, 9, 22, 30), size: tuple[int, int] = (32, 32)) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def asked(seed: int = 3, **settings: Any) -> Request:
    usual: dict[str, Any] = {"steps": 5, "guidance_scale": 5.0, "sampler": "DDIM"}
    return Request("a cat", "a dog", seed=seed, **{**usual, **settings})


def drawn(family: Any, *requests: Request) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.asarray(each.image).astype(int) for each in generate.draw(family, requests)]


def theirs(family: Any, pipeline: str, *, seed: int = 3, sampler: str = "DDIM", **settings: Any) -> np.ndarray:  # type: ignore[type-arg]
    import diffusers

    more = {"requires_safety_checker": False} if "XL" not in pipeline else {"add_watermarker": False}
    control = {"controlnet": settings.pop("controlnet")} if "controlnet" in settings else {}
    whole = getattr(diffusers, pipeline)(**family.pipeline().components, **more, **control)
    whole.scheduler = samplers.build(samplers.resolve(sampler), family.scheduler_config)
    whole.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    usual = {"num_inference_steps": 5, "guidance_scale": 5.0, "height": 32, "width": 32}
    said = whole("a cat", negative_prompt="a dog", generator=generator, **{**usual, **settings})
    return np.asarray(said.images[0]).astype(int)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
@pytest.mark.parametrize("strength", [0.7, 1.0])
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_inpainting_is_what_diffusers_draws(nine: Any, name: str, strength: float, sampler: str) -> None:
    family, picture, mask = nine(name), scene(), hole()
    (ours,) = drawn(family, asked(init=picture, mask=mask, strength=strength, sampler=sampler))
    other = theirs(family, PIPELINES[name], image=picture, mask_image=mask, strength=strength, sampler=sampler)
    inside = np.asarray(mask) > 0
    assert np.abs(ours - other)[inside].max() <= LAST_BITS
    assert np.array_equal(ours[~inside], np.asarray(picture).astype(int)[~inside])
    assert np.abs(other - np.asarray(picture))[~inside].max() > LAST_BITS, "the decoder changes all of it"


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_from_text_and_without_a_mask_all_of_the_picture_is_masked(nine: Any, name: str) -> None:
    family, white = nine(name), Image.new("L", (32, 32), 255)
    text, image = drawn(family, asked(), asked(init=scene(1), strength=0.6))
    anything = theirs(family, PIPELINES[name], image=scene(), mask_image=white, strength=1.0)
    assert np.abs(text - anything).max() <= LAST_BITS
    changed = theirs(family, PIPELINES[name], image=scene(1), mask_image=white, strength=0.6)
    assert np.abs(image - changed).max() <= LAST_BITS
    assert np.abs(text - image).max() > LAST_BITS


def test_unguided_and_blurred_is_what_diffusers_draws_where_the_mask_is_white(nine: Any) -> None:
    family, picture, mask = nine("sd"), scene(), hole((4, 4, 28, 28))
    unguided = {"steps": 5, "guidance_scale": 1, "sampler": "DDIM", "strength": 0.8, "mask_blur": 2}
    (ours,) = drawn(family, Request("a cat", seed=3, init=picture, mask=mask, **unguided))
    other = theirs(family, PIPELINES["sd"], image=picture, mask_image=mask, strength=0.8, guidance_scale=1.0)
    assert np.abs(ours - other)[12:20, 12:20].max() <= LAST_BITS


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_conditioning_mask_hides_as_much_as_its_strength(nine: Any, strength: float) -> None:
    """At 0 the base sees the picture itself; diffusers is given the latents of the lerp."""
    family, picture, mask = nine("sd"), scene(), hole()
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None] * 2 - 1
    white = torch.from_numpy(np.asarray(mask, np.float32) / 255)[None, None]
    generator = torch.Generator().manual_seed(3)
    torch.randn((1, 4, 8, 8), generator=generator)  # at strength 1 the noise comes first
    with torch.no_grad():
        posterior = family.vae.encode(torch.lerp(pixels, pixels * (1 - white), strength)).latent_dist
        latents = family.vae.config.scaling_factor * posterior.sample(generator)
    (ours,) = drawn(family, asked(init=picture, mask=mask, strength=1.0, mask_strength=strength))
    other = theirs(family, PIPELINES["sd"], image=picture, mask_image=mask, strength=1.0, masked_image_latents=latents)
    inside = np.asarray(mask) > 0
    assert np.abs(ours - other)[inside].max() <= LAST_BITS
    (usual,) = drawn(family, asked(init=picture, mask=mask, strength=1.0))
    assert np.abs(ours - usual)[inside].max() > LAST_BITS


def test_what_it_sees_is_the_mask_and_the_rest_of_the_picture(nine: Any) -> None:
    family = nine("sd")
    request = generate.fitted(family, asked(init=scene(), mask=hole((0, 0, 16, 32))))
    scheduler = denoise.scheduler_of(family, request)
    timesteps = denoise.set_timesteps(scheduler, request, family)
    with torch.no_grad():
        seen = canvas.start(family, scheduler, [request], [torch.Generator()], timesteps[:1]).seen
        assert seen is not None
        assert seen.shape == (1, 5, 8, 8)
        assert seen[0, 0].tolist() == [[1.0] * 4 + [0.0] * 4] * 8
        grey = Image.fromarray(np.asarray(scene()).copy())
        grey.paste((0, 0, 0), (0, 0, 16, 32))
        plain = family.encode_images(torch.from_numpy(np.asarray(grey, np.float32) / 127.5 - 1).permute(2, 0, 1)[None])
    far = (seen[0, 1:] - family.scale_latents(plain.mean)[0]).abs()[:, :, 7]
    assert far.max() < 5 * float(family.scale_latents(plain.std).max())


def test_only_masked_is_the_drawn_part_put_back(nine: Any) -> None:
    family, whole, mask = nine("sd"), scene(2, (80, 60)), hole((30, 20, 46, 36), (80, 60))
    (picture,) = drawn(family, asked(init=whole, mask=mask, only_masked_padding=4, width=32, height=32))
    box = (26, 16, 50, 40)
    part, white = (each.crop(box).resize((32, 32), Image.Resampling.LANCZOS) for each in (whole, mask))
    other = theirs(family, PIPELINES["sd"], image=part, mask_image=white, strength=0.75)
    layer = whole.copy()
    layer.paste(Image.fromarray(other.astype(np.uint8)).resize((24, 24), Image.Resampling.LANCZOS), box[:2])
    expected = np.asarray(Image.composite(layer, whole, mask), int)
    assert np.abs(picture - expected).max() <= LAST_BITS


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_a_second_pass_starts_from_the_first_ones_picture(nine: Any, strength: float) -> None:
    family = nine("sd")
    hires = Hires(scale=2, upscaler="Nearest", strength=0.6)
    (small,) = drawn(family, asked())
    large = Image.fromarray(small.astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
    second, whole, latent, other = drawn(
        family, asked(init=large, width=64, height=64, strength=0.6, mask_strength=strength),
        asked(hires=hires, mask_strength=strength), asked(hires=Hires(scale=2, strength=0.6), mask_strength=strength),
        asked(hires=Hires(scale=2, strength=0.6), mask_strength=0.9),
    )  # fmt: skip
    assert np.abs(second - whole).max() <= LAST_BITS
    assert latent.shape == whole.shape
    assert np.abs(latent - other).max() > LAST_BITS, "in latents the picture is what they decode to"


def test_drawn_beside_others_it_is_the_picture_drawn_alone(nine: Any) -> None:
    family = nine("sd")
    network = Network("edges", control_of(family, in_channels=4))
    requests = [
        asked(1), asked(2, init=scene(), mask=hole(), mask_strength=0.5), asked(3, init=scene(1), strength=0.5),
        asked(4, init=scene(), mask=hole((0, 0, 9, 9)), steps=7, sampler="Euler a", masked_content="latent noise"),
        asked(5, controls=(Control(network, scene(2)),), init=scene(1), mask=hole()), asked(6, tiling=True),
        asked(7, grammar=True, hires=Hires(scale=1.5)),
    ]  # fmt: skip
    for request, beside in zip(requests, drawn_beside(family, requests), strict=True):
        (alone,) = drawn(family, request)
        assert np.abs(beside - alone).max() <= LAST_BITS
    together = drawn(family, *(asked(seed, init=scene(seed), mask=hole()) for seed in (1, 2, 3)))
    for seed, picture in zip((1, 2, 3), together, strict=True):
        assert np.abs(picture - drawn(family, asked(seed, init=scene(seed), mask=hole()))[0]).max() <= LAST_BITS


def test_a_controlnet_sees_the_noise_alone_as_in_diffusers(nine: Any) -> None:
    family, picture, mask, image = nine("sd"), scene(), hole(), scene(4)
    network = control_of(family, in_channels=4)
    request = asked(init=picture, mask=mask, strength=1.0, controls=(Control(Network("edges", network), image),))
    (ours,) = drawn(family, request)
    other = theirs(
        family, "StableDiffusionControlNetInpaintPipeline", controlnet=network, image=picture, mask_image=mask,
        control_image=image, strength=1.0, controlnet_conditioning_scale=1.0,
    )  # fmt: skip
    inside = np.asarray(mask) > 0
    assert np.abs(ours - other)[inside].max() <= LAST_BITS
    (plain,) = drawn(family, asked(init=picture, mask=mask, strength=1.0))
    assert np.abs(ours - plain).max() > 10, "the network has something to say"


def test_the_picture_says_its_weight_where_it_matters(nine: Any, tiny_sd: Path) -> None:
    pictures = list(
        generate.draw(
            nine("sd"),
            [asked(), asked(init=scene(), mask=hole(), mask_strength=0.25), asked(init=scene(), mask=hole())],
        )
    )
    said = [infotext.parse(each.infotext).fields.get("Conditional mask weight") for each in pictures]
    assert said == [None, "0.25", "1"]
    assert [each.provenance["request"].get("mask_strength") for each in pictures] == [None, 0.25, None]
    (plain,) = generate.draw(families.load(str(tiny_sd)), [asked(init=scene(), mask=hole())])
    assert "Conditional mask weight" not in plain.infotext
    assert "sees_masks" not in plain.provenance


def test_what_no_base_could_follow_is_refused(nine: Any, tiny_sd: Path) -> None:
    plain, start = families.load(str(tiny_sd)), {"init": scene(), "mask": hole()}
    with pytest.raises(ConfigError, match=r"mask_strength: 1\.5 is not from 0 to 1"):
        asked(mask_strength=1.5, **start)
    with pytest.raises(ConfigError, match=r"mask_strength: 0\.5 is for inpainting bases.*this one \(sd\)"):
        drawn(plain, asked(mask_strength=0.5, **start))
    with pytest.raises(ConfigError, match="mask_strength: it needs a picture"):
        drawn(nine("sd"), asked(mask_strength=0.5))
    with pytest.raises(ModelError, match="wants a mask here"):
        nine("sd").predict(torch.zeros(1, 4, 8, 8), torch.tensor([5]), nine("sd").encode_text(["a"]))


def test_asked_without_pictures_all_is_masked(nine: Any, tiny_sd: Path) -> None:
    family, plain = nine("sd"), families.load(str(tiny_sd))
    with torch.no_grad():
        texts = mask_channels.all_masked(family, family.encode_text(["a", "b"]), (8, 8))
        predicted = family.predict(torch.zeros(2, 4, 8, 8), torch.tensor([5, 5]), texts)
    seen = texts.tensors[mask_channels.NAME]
    assert predicted.shape == (2, 4, 8, 8)
    assert seen.shape == (2, 5, 8, 8)
    assert bool((seen[:, 0] == 1).all())
    assert mask_channels.NAME not in mask_channels.all_masked(plain, plain.encode_text(["a"]), (8, 8)).tensors
