"""What A1111's users ask for beyond prompt and size, each against a computation of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image
from scipy.spatial import geometric_slerp
from tiny_families import make

from brushwork import canvas, denoise, families, generate, infotext, inpaint, noise, tiling
from brushwork.errors import ConfigError
from brushwork.hires import Hires
from brushwork.stepwise import Drawing, advance

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.values import Family

ASKED: dict[str, Any] = {"prompt": "a cat", "seed": 3, "steps": 4, "guidance_scale": 4, "sampler": "DDIM"}
SIZE: dict[str, Any] = {"width": 32, "height": 32}
LAST_BITS = 1


@pytest.fixture(scope="module")
def family(tiny_sd: Path) -> Family:
    return families.load(str(tiny_sd))


def drawn(family: Family, request: generate.Request) -> np.ndarray[Any, Any]:
    return np.asarray(next(generate.draw(family, [request])).image, int)


def ask(**more: Any) -> generate.Request:
    return generate.Request(**{**ASKED, **SIZE, **more})


def scene(size: tuple[int, int] = (32, 32), seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    return Image.fromarray(levels)


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def first_latents(family: Family, request: generate.Request) -> torch.Tensor:
    return Drawing(family, generate.fitted(family, request)).latents


# Variation seed.


def test_slerp_is_the_geodesic_of_every_column() -> None:
    low, high = (torch.randn((2, 5, 3), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    low, high = (each / each.norm(dim=1, keepdim=True) for each in (low, high))
    turned = noise.slerp(3 * low, 3 * high, 0.3) / 3
    for channel, column in np.ndindex(2, 3):
        ends = [each[channel, :, column].double().numpy() for each in (low, high)]
        unit = [each / np.linalg.norm(each) for each in ends]
        assert turned[channel, :, column].numpy() == pytest.approx(geometric_slerp(*unit, [0.3])[0], abs=1e-5)
    assert torch.allclose(noise.slerp(low, low, 0.3), low, atol=1e-5)


def test_a_variation_goes_from_the_picture_of_one_seed_to_that_of_the_other(family: Family) -> None:
    whole = ask(variation_seed=8, variation_strength=1)
    assert (drawn(family, whole) == drawn(family, ask(seed=8))).all()
    assert (drawn(family, ask(variation_seed=8)) == drawn(family, ask())).all()
    start = first_latents(family, ask(variation_seed=8, variation_strength=0.25))
    seeds = [torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(seed)) for seed in (3, 8)]
    assert torch.allclose(start[0], noise.slerp(seeds[0], seeds[1], 0.25), atol=1e-6)
    changed = ask(init=scene(), variation_seed=8, variation_strength=1)
    posterior = torch.Generator().manual_seed(8)
    torch.randn((4, 8, 8), generator=posterior)
    drawing = Drawing(family, generate.fitted(family, changed))
    plain = first_latents(family, replace(changed, variation_strength=0))
    own = torch.Generator().manual_seed(3)
    torch.randn((4, 8, 8), generator=own)
    root = (1 - family.alphas_cumprod[int(drawing.now.timesteps[0])]).sqrt().float()
    difference = root * (torch.randn((4, 8, 8), generator=posterior) - torch.randn((4, 8, 8), generator=own))
    assert torch.allclose((drawing.latents - plain)[0], difference, atol=1e-5)


def test_the_noise_of_another_size_is_in_the_middle(family: Family) -> None:
    """Latents are 8 x 8 here, of 4 pixels each."""
    small, large = ((4, 4), (12, 6))
    for height, width in (small, large):
        size = (4 * width, 4 * height)
        start = first_latents(family, ask(seed_resize=size))[0]
        own = torch.randn((4, height, width), generator=torch.Generator().manual_seed(3))
        rest = torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(3))
        if (height, width) == small:
            rest[:, 2:6, 2:6] = own
        else:
            rest[:, :, 1:7] = own[:, 2:10]
        assert torch.equal(start, rest)
    other = torch.randn((4, 4, 4), generator=torch.Generator().manual_seed(8))
    turned = first_latents(family, ask(seed_resize=(16, 16), variation_seed=8, variation_strength=1))[0]
    assert torch.allclose(turned[:, 2:6, 2:6], other, atol=1e-6)
    plain, same = (drawn(family, ask(**more)) for more in ({}, {"seed_resize": (32, 32)}))
    assert (plain == same).all()
    picture = next(generate.draw(family, [ask(seed_resize=(16, 24))]))
    assert infotext.parse(picture.infotext).fields["Seed resize from"] == "16x24"
    assert picture.provenance["request"]["seed_resize"] == (16, 24)


# Noise multiplier.


def test_the_noise_multiplier_scales_the_noise_and_not_the_picture(family: Family) -> None:
    none, half, full = (first_latents(family, ask(init=scene(), noise_multiplier=times)) for times in (0, 0.5, 1))
    assert torch.allclose(half, (none + full) / 2, atol=1e-6)
    drawing = Drawing(family, generate.fitted(family, ask(init=scene(), noise_multiplier=0)))
    clean = canvas._encode(family, canvas._pixels(scene()), torch.Generator().manual_seed(3))
    root = family.alphas_cumprod[int(drawing.now.timesteps[0])].sqrt().float()
    assert torch.allclose(none, clean * root, atol=1e-5)


# Inpainting.


def test_fill_spreads_the_colours_about_the_mask() -> None:
    red = Image.new("RGB", (32, 24), (200, 10, 30))
    hole = box_mask((32, 24), (8, 6, 20, 18))
    spoiled = red.copy()
    spoiled.paste((0, 255, 0), (8, 6, 20, 18))
    assert np.array_equal(np.asarray(inpaint.fill(spoiled, hole)), np.asarray(red))
    noisy = scene((32, 24))
    filled, before = np.asarray(inpaint.fill(noisy, hole)), np.asarray(noisy)
    outside = np.asarray(hole) == 0
    assert np.array_equal(filled[outside], before[outside])
    halves = Image.new("RGB", (32, 32), "black")
    halves.paste((255, 255, 255), (16, 0, 32, 32))
    row = np.asarray(inpaint.fill(halves, box_mask((32, 32), (8, 0, 24, 32))), int)[16, 8:24, 0]
    assert (np.diff(row) >= -1).all()
    assert row[0] < 64
    assert row[-1] > 192
    assert np.array_equal(np.asarray(inpaint.fill(noisy, Image.new("L", (32, 24), 255))), before)


@pytest.mark.parametrize(
    ("box", "padding", "size", "expected"),
    [
        ((10, 10, 20, 20), 0, (64, 64), (10, 10, 20, 20)),
        ((10, 10, 20, 20), 4, (64, 64), (6, 6, 24, 24)),
        ((10, 10, 30, 20), 0, (64, 64), (10, 5, 30, 25)),
        ((0, 0, 10, 30), 0, (64, 64), (0, 0, 30, 30)),
        ((10, 10, 20, 20), 0, (128, 64), (5, 10, 25, 20)),
        ((0, 10, 40, 20), 9, (64, 64), (0, 0, 40, 36)),
    ],
)
def test_the_box_about_a_mask_is_padded_in_proportion_and_inside(
    box: tuple[int, int, int, int], padding: int, size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    assert inpaint.region(box_mask((40, 36), box), padding, size) == expected


def test_what_is_under_the_mask_at_first_is_noise_or_nothing(family: Family) -> None:
    hole = box_mask((32, 32), (0, 0, 16, 32))
    under: dict[str, torch.Tensor] = {}
    for content in inpaint.CONTENTS:
        request = ask(init=scene(), mask=hole, masked_content=content, noise_multiplier=0)
        under[content] = first_latents(family, request)[0]
    drawing = Drawing(family, generate.fitted(family, request))
    root = family.alphas_cumprod[int(drawing.now.timesteps[0])].sqrt().float()
    generator = torch.Generator().manual_seed(3)
    torch.randn((4, 8, 8), generator=generator)
    own = torch.randn((4, 8, 8), generator=generator)
    assert (under["latent nothing"][:, :, :4] == 0).all()
    assert torch.allclose(under["latent noise"][:, :, :4], own[:, :, :4] * root, atol=1e-5)
    for content in ("latent nothing", "latent noise"):
        assert torch.equal(under[content][:, :, 4:], under["original"][:, :, 4:])
    assert not torch.allclose(under["fill"][:, :, :2], under["original"][:, :, :2], atol=1e-3)


def test_only_masked_is_the_drawn_part_put_back(family: Family) -> None:
    """The same as cutting the part out, drawing it with a mask and pasting it by hand."""
    whole, mask = scene((80, 60)), box_mask((80, 60), (30, 20, 46, 36))
    request = ask(init=whole, mask=mask, only_masked_padding=4, strength=0.9)
    picture = drawn(family, request)
    assert picture.shape == (60, 80, 3)
    box = (26, 16, 50, 40)
    part, hole = (each.crop(box).resize((32, 32), Image.Resampling.LANCZOS) for each in (whole, mask))
    alone = next(generate.draw(family, [ask(init=part, mask=hole, strength=0.9)])).image
    layer = whole.copy()
    layer.paste(alone.resize((24, 24), Image.Resampling.LANCZOS), box[:2])
    expected = np.asarray(Image.composite(layer, whole, mask), int)
    inner = np.s_[24:32, 34:42]  # away from the edge, where the part's own paste mixes the original in
    assert np.abs(picture[inner] - expected[inner]).max() <= LAST_BITS
    outside = np.asarray(mask) == 0
    assert (picture[outside] == np.asarray(whole, int)[outside]).all()
    assert (picture[~outside] != np.asarray(whole, int)[~outside]).any()


def test_a_blurred_mask_mixes_at_its_edge(family: Family) -> None:
    start, hole = scene(), box_mask((32, 32), (0, 0, 16, 32))
    hard, soft = (drawn(family, ask(init=start, mask=hole, mask_blur=blur)) for blur in (0, 2))
    original = np.asarray(start, int)
    assert (hard[:, 16:] == original[:, 16:]).all()
    assert (soft[:, 16:18] != original[:, 16:18]).any()
    assert (soft[:, 26:] == original[:, 26:]).all()
    line = box_mask((32, 32), (8, 0, 9, 32))
    drawing = Drawing(family, generate.fitted(family, ask(init=start, mask=line, mask_blur=4)))
    assert drawing.start.kept is not None
    assert drawing.start.kept.drawn[0, 0].any(0).tolist() == [False, False, True, False, False, False, False, False]


# Hires fix.


@pytest.mark.parametrize("upscaler", ["Lanczos", "Nearest"])
def test_hires_in_pixels_is_img2img_of_the_enlarged_picture(family: Family, upscaler: str) -> None:
    first = next(generate.draw(family, [ask()])).image
    large = first.resize((64, 48), Image.Resampling[upscaler.upper()], box=(0, 4, 32, 28))
    second = ask(init=large, width=64, height=48, strength=0.6, steps=5, prompt="a dog", sampler="Euler a")
    hires = Hires(
        width=64, height=48, upscaler=upscaler, strength=0.6, steps=5, prompt="a dog", sampler="Euler a"
    )  # fmt: skip
    assert np.abs(drawn(family, ask(hires=hires)) - drawn(family, second)).max() <= LAST_BITS


def test_hires_in_latents_is_what_diffusers_pipelines_draw(family: Family) -> None:
    """Text to latents, enlarged bilinearly, latents to picture: with diffusers' own pipelines."""
    pipeline = family.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = denoise.scheduler_of(family, ask())
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    said = {"prompt": "a cat", "guidance_scale": 4}
    start = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    latents = pipeline(**said, num_inference_steps=4, height=32, width=32, latents=start, output_type="latent").images
    large = torch.nn.functional.interpolate(latents, scale_factor=2, mode="bilinear")
    second = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    second.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 6, "strength": 0.5, "generator": torch.Generator().manual_seed(3)}
    theirs = second(**said, **settings, image=large, output_type="np").images[0]
    ours = drawn(family, ask(hires=Hires(scale=2, upscaler="Latent", steps=6, strength=0.5)))
    assert np.abs(ours - (theirs * 255).round()).max() <= LAST_BITS


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_flow_models_have_a_second_pass_and_masks_too(name: str, tmp_path: Path) -> None:
    family = families.load(str(make(name, tmp_path / name)))
    asked = {"sampler": "Euler", "guidance_scale": 2, "variation_seed": 4, "variation_strength": 0.5}
    side = 4 * family.size_multiple
    first = next(generate.draw(family, [ask(**asked, width=side, height=side)])).image
    large = first.resize((2 * side, 2 * side), Image.Resampling.NEAREST)
    second = ask(**asked, init=large, width=2 * side, height=2 * side, strength=0.5)
    hires = Hires(scale=2, upscaler="Nearest", strength=0.5)
    ours = drawn(family, ask(**asked, width=side, height=side, hires=hires))
    assert np.abs(ours - drawn(family, second)).max() <= LAST_BITS
    latent = drawn(family, ask(**asked, width=side, height=side, hires=Hires(scale=2, strength=0.5)))
    assert latent.shape == ours.shape
    assert (latent != ours).any()
    mask = box_mask(large.size, (0, 0, side, side))
    inside = ask(**asked, init=large, mask=mask, masked_content="fill", only_masked_padding=0, width=side, height=side)
    kept = np.asarray(mask) == 0
    assert (drawn(family, inside)[kept] == np.asarray(large, int)[kept]).all()


def test_both_passes_are_counted_and_mix_with_other_pictures(family: Family) -> None:
    requests = [generate.fitted(family, each) for each in (ask(hires=Hires(scale=2)), ask(seed=4), ask(tiling=True))]
    drawings = [Drawing(family, each) for each in requests]
    assert [each.total for each in drawings] == [4 + int(4 * 0.7), 4, 4]
    while not all(each.done for each in drawings):
        advance(family, [each for each in drawings if not each.done])
    for request, drawing in zip(requests, drawings, strict=True):
        assert np.abs(np.asarray(drawing.image(), int) - drawn(family, request)).max() <= LAST_BITS
    sizes = [each.image.size for each in generate.draw(family, requests)]
    assert sizes == [(64, 64), (32, 32), (32, 32)]


# Tiling.


def test_a_tiling_model_does_not_know_where_the_edge_is(family: Family) -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((1, 4, 8, 8), generator=generator)
    texts = denoise.conditioning(family, [ask(guidance_scale=1)])

    def predict(values: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return family.predict(values, torch.tensor([500]), texts)

    rolled = latents.roll((4, 4), (2, 3))
    with tiling.circular(family.denoiser, family.vae), torch.no_grad():
        assert torch.allclose(predict(rolled), predict(latents).roll((4, 4), (2, 3)), atol=1e-5)
        pixels = [family.decode_latents(each) for each in (latents, rolled)]
        assert torch.allclose(pixels[1], pixels[0].roll((16, 16), (2, 3)), atol=1e-5)
    assert not torch.allclose(predict(rolled), predict(latents).roll((4, 4), (2, 3)), atol=1e-3)


def test_tiling_leaves_the_model_as_it_was(family: Family) -> None:
    before = {name: value.clone() for name, value in family.denoiser.state_dict().items()}
    plain = drawn(family, ask())
    tiled = drawn(family, ask(tiling=True))
    assert (plain != tiled).any()
    assert (drawn(family, ask()) == plain).all()
    assert all(torch.equal(before[name], value) for name, value in family.denoiser.state_dict().items())
    with pytest.raises(ZeroDivisionError), tiling.circular(family.denoiser):
        1 / 0  # noqa: B018  (an error within)
    modes = {each.padding_mode for each in family.denoiser.modules() if isinstance(each, torch.nn.Conv2d)}
    assert modes == {"zeros"}


# What is said and what is refused.


def test_the_infotext_says_it_in_the_names_of_a1111(family: Family) -> None:
    hires = Hires(scale=2, upscaler="Lanczos", steps=2, prompt="a, dog", sampler="Euler a")
    request = ask(variation_seed=8, variation_strength=0.25, tiling=True, hires=hires)
    picture = next(generate.draw(family, [request]))
    fields = infotext.parse(picture.infotext).fields
    expected = {
        "Variation seed": "8", "Variation seed strength": "0.25", "Tiling": "True", "Denoising strength": "0.7",
        "Hires upscale": "2", "Hires upscaler": "Lanczos", "Hires steps": "2", "Hires prompt": "a, dog",
        "Hires sampler": "Euler a", "Size": "32x32",
    }  # fmt: skip
    assert {name: fields.get(name) for name in expected} == expected
    assert picture.provenance["request"]["hires"]["width"] == 64
    masked = ask(init=scene(), mask=box_mask((32, 32), (0, 0, 9, 9)), mask_blur=2, masked_content="fill",
                 only_masked_padding=3, noise_multiplier=0.9)  # fmt: skip
    fields = infotext.parse(next(generate.draw(family, [masked])).infotext).fields
    expected = {
        "Mask blur": "2", "Masked content": "fill", "Inpaint area": "Only masked", "Masked area padding": "3",
        "Noise multiplier": "0.9",
    }  # fmt: skip
    assert {name: fields.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"variation_strength": 1.1}, "variation_strength: 1.1 is not from 0 to 1"),
        ({"seed_resize": (32, 0)}, r"seed_resize: \(32, 0\) is no width and height"),
        ({"variation_seed": -1}, "variation_seed: -1 is not"),
        ({"noise_multiplier": 0.5}, "noise_multiplier: it needs a picture"),
        ({"mask_blur": 4}, "mask_blur: it needs a mask"),
        ({"masked_content": "latent nose"}, "Did you mean latent noise"),
        ({"init": scene(), "hires": Hires(scale=2)}, "hires: its first pass is from text alone"),
        ({"init": scene(), "mask": Image.new("L", (32, 32)), "only_masked_padding": 0}, "all of it is black"),
        ({"hires": Hires(width=63)}, "hires.width: 63 is not a multiple of"),
        ({"hires": Hires(scale=2, sampler="DDIM", steps=1, strength=0.5)}, "less than one step"),
    ],
)
def test_what_makes_no_sense_is_refused(family: Family, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        next(generate.draw(family, [ask(**asked)]))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "say how large"),
        ({"scale": 9}, "hires.scale: 9 is not from 1 to 8"),
        ({"scale": 2, "upscaler": "Lancos"}, "Did you mean Lanczos"),
        ({"scale": 2, "strength": 0}, "hires.strength: 0 is not"),
        ({"scale": 2, "steps": -1}, "hires.steps: -1"),
    ],
)
def test_a_second_pass_that_makes_no_sense_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Hires(**asked)


def test_a_flow_model_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    family = families.load(str(make("flux", tmp_path / "flux")))
    hole = Image.new("L", (32, 32), 255)
    with pytest.raises(ConfigError, match="flow model"):
        generate.fitted(family, ask(init=scene(), mask=hole, masked_content="latent noise"))
    with pytest.raises(ConfigError, match="tiling: flux is a transformer"):
        generate.fitted(family, ask(tiling=True))
