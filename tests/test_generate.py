"""Drawing: each picture is a function of its own request, is what diffusers draws, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tiny import make_tiny_sd

from brushwork import families, generate, infotext, samplers
from brushwork.errors import ConfigError, ModelError, RunFailed
from brushwork.generate import Request

if TYPE_CHECKING:
    from pathlib import Path

ACROSS_BATCHES = 1
"""Levels of 255 by which a picture may differ when drawn in another batch (measured: 1, from the order of sums)."""


@pytest.fixture
def family(tiny_sd: Path) -> Any:
    return families.load(str(tiny_sd))


def pixels(pictures: Any) -> list[np.ndarray]:
    return [np.asarray(picture.image).astype(int) for picture in pictures]


def requests(count: int, **settings: Any) -> list[Request]:
    return [Request(f"a cat {place}", seed=place, **({"steps": 3} | settings)) for place in range(count)]


def noise_picture(seed: int = 0, size: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a", "DPM++ 2M", "DPM++ 2M SDE", "Heun"])
def test_a_batch_is_bit_for_bit_what_diffusers_draws(family: Any, sampler: str) -> None:
    import torch

    asked = requests(3, sampler=sampler, guidance_scale=5.0, negative_prompt="a dog")
    pipeline = family.pipeline()
    pipeline.scheduler = samplers.build(samplers.resolve(sampler), family.scheduler_config)
    theirs = pipeline(
        [each.prompt for each in asked],
        negative_prompt=["a dog"] * 3,
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(each.seed) for each in asked],
    ).images
    for ours, other in zip(generate.draw(family, asked), theirs, strict=True):
        assert np.array_equal(ours.image, other)


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M SDE", "DPM++ 2M"])
def test_a_picture_does_not_depend_on_its_batch(family: Any, sampler: str) -> None:
    asked = requests(8, sampler=sampler)
    together = pixels(generate.draw(family, asked, batch_size=8))
    alone = pixels(generate.draw(family, asked, batch_size=1))
    odd = pixels(generate.draw(family, asked, batch_size=3))
    for one, two, three in zip(together, alone, odd, strict=True):
        assert max(abs(one - two).max(), abs(one - three).max()) <= ACROSS_BATCHES


def test_the_same_requests_give_the_same_bits(family: Any) -> None:
    asked = requests(4, sampler="Euler a")
    first, second = pixels(generate.draw(family, asked)), pixels(generate.draw(family, asked))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_pictures_come_in_the_order_of_their_requests_whatever_their_settings(family: Any) -> None:
    asked = [Request("a", seed=place, steps=1 + place % 2, sampler="Euler") for place in range(6)]
    drawn = list(generate.draw(family, asked, batch_size=2))
    assert [picture.request.seed for picture in drawn] == list(range(6))
    for picture, request in zip(drawn, asked, strict=True):
        (alone,) = generate.draw(family, [request])
        assert np.array_equal(picture.image, alone.image)


@pytest.mark.parametrize("scale", [0, 1])
def test_without_guidance_a_negative_prompt_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match=f"cfg {scale} is no guidance"):
        Request("a cat", "dogs", guidance_scale=scale)


def test_with_guidance_prompt_negative_prompt_and_scale_matter(family: Any) -> None:
    base = Request("a cat", steps=2)
    others = [
        dataclasses.replace(base, prompt="a dog"),
        dataclasses.replace(base, negative_prompt="a dog"),
        dataclasses.replace(base, guidance_scale=2.0),
    ]
    first, *rest = pixels(generate.draw(family, [base, *others]))
    assert all(not np.array_equal(first, other) for other in rest)


def test_drawing_in_the_middle_of_training_disturbs_nothing(family: Any) -> None:
    import torch

    family.unet.train()
    family.unet.mid_block.eval()
    family.unet.enable_gradient_checkpointing()
    trained = family.unet.conv_in.weight.requires_grad_()
    modes = [module.training for part in (family.unet, family.vae, family.text_encoder) for module in part.modules()]
    wanted = [parameter.requires_grad for parameter in family.unet.parameters()]
    before = torch.get_rng_state()
    drawing = generate.draw(family, requests(3, sampler="DPM++ 2M SDE"), batch_size=1)
    next(drawing)
    assert torch.is_grad_enabled(), "also between two pictures"
    assert family.unet.training
    assert len(list(drawing)) == 2
    after = [module.training for part in (family.unet, family.vae, family.text_encoder) for module in part.modules()]
    assert modes == after
    assert wanted == [parameter.requires_grad for parameter in family.unet.parameters()]
    assert family.unet.is_gradient_checkpointing
    assert trained.grad is None
    assert torch.equal(before, torch.get_rng_state())


def test_a_drawing_that_fails_leaves_the_modes_as_they_were(family: Any) -> None:
    family.unet.train()
    family.unet.conv_out.weight.data[:] = float("nan")
    with pytest.raises(RunFailed):
        list(generate.draw(family, requests(1)))
    assert family.unet.training


def test_training_mode_changes_no_picture(tmp_path: Path) -> None:
    family = families.load(str(make_tiny_sd(tmp_path / "dropout", dropout=0.5)))
    calm = pixels(generate.draw(family, requests(1)))
    family.unet.train()
    assert np.array_equal(calm, pixels(generate.draw(family, requests(1))))


def test_nan_is_an_error_that_names_the_picture_never_a_black_one(family: Any) -> None:
    family.unet.conv_out.weight.data[:] = float("nan")
    with pytest.raises(RunFailed, match=r"drawing 'a cat 0' \(seed 0\): the latents became NaN"):
        list(generate.draw(family, requests(2)))


def test_nan_in_the_decoder_is_told_apart(family: Any) -> None:
    family.vae.decoder.conv_out.weight.data[:] = float("inf")
    with pytest.raises(RunFailed, match="the decoded pixels became NaN"):
        list(generate.draw(family, requests(1)))


def test_the_size_is_the_bases_own_unless_it_is_given(family: Any) -> None:
    (own,) = generate.draw(family, [Request("a", steps=1)])
    (wide,) = generate.draw(family, [Request("a", steps=1, width=48, height=20)])
    assert (own.image.size, wide.image.size) == ((32, 32), (48, 20))
    assert "Size: 48x20" in wide.infotext
    assert (wide.request.width, own.request.height) == (48, 32)


@pytest.mark.parametrize(("size", "nearest"), [(30, 32), (33, 32), (1, 4), (0, 4), (-8, 4)])
def test_a_size_that_does_not_fit_the_latents_is_refused_with_the_nearest(family: Any, size: int, nearest: int) -> None:
    with pytest.raises(ConfigError, match=f"height {size} is not a multiple of 4; nearest: {nearest}"):
        list(generate.draw(family, [Request("a", height=size)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: 0 is too few"),
        ({"guidance_scale": -1.0}, "cfg: -1.0"),
        ({"guidance_scale": float("nan")}, "cfg: nan"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 1 << 63}, "seed: "),
        ({"sampler": "Eular"}, "Did you mean Euler"),
        ({"strength": 0.0}, "strength: 0.0"),
        ({"strength": 1.5}, "strength: 1.5"),
        ({"mask": Image.new("L", (8, 8))}, "mask: a mask needs the picture"),
        ({"mask": Image.new("L", (8, 8)), "init": Image.new("RGB", (9, 8))}, "mask: it is 8x8 but the picture is 9x8"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_loaded(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Request("a", **settings)
    assert message in str(caught.value)


def test_what_the_model_cannot_read_of_a_prompt_is_said_once(family: Any, capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 20 + "unread words"
    list(generate.draw(family, [Request(long, seed=seed, steps=1) for seed in range(3)]))
    printed = capsys.readouterr().err
    assert printed.count("too long for this model") == 1
    assert "unread words" in printed


def test_a_prompt_that_fits_is_drawn_in_silence(family: Any, capsys: pytest.CaptureFixture[str]) -> None:
    list(generate.draw(family, [Request("a cat", steps=1)]))
    assert capsys.readouterr().err == ""


def test_progress_ends_at_the_total_and_never_goes_back(family: Any) -> None:
    seen: list[tuple[int, int]] = []
    asked = [*requests(3, sampler="Heun"), *requests(2, steps=2)]
    list(generate.draw(family, asked, batch_size=2, on_step=lambda done, total: seen.append((done, total))))
    assert {total for _, total in seen} == {3 * 3 + 2 * 2}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 13


def test_a_picture_carries_all_that_made_it(family: Any, tmp_path: Path) -> None:
    request = Request("a cat, sitting", "dogs", seed=7, steps=2, guidance_scale=6.5, sampler="dpmpp_2m_sde")
    (picture,) = generate.draw(family, [request], label="tiny", model_hash="0123456789")
    assert picture.infotext == (
        "a cat, sitting\nNegative prompt: dogs\n"
        "Steps: 2, Sampler: DPM++ 2M SDE, Schedule type: Automatic, CFG scale: 6.5, Seed: 7, Size: 32x32, "
        f"Model hash: 0123456789, Model: tiny, RNG: CPU, Version: brushwork {picture.provenance['brushwork']}"
    )
    read = infotext.read_png(infotext.save_png(picture, tmp_path / "a.png"))
    assert read.provenance == picture.provenance
    assert picture.provenance["base_fingerprint"] == family.fingerprint
    assert picture.provenance["request"]["seed"] == 7
    assert {"torch", "diffusers"} <= set(picture.provenance["versions"])


@pytest.mark.parametrize("sampler", ["DDIM", "DPM++ 2M", "Euler a", "Heun"])
def test_from_a_picture_it_is_bit_for_bit_what_diffusers_draws(family: Any, sampler: str) -> None:
    import torch
    from diffusers import StableDiffusionImg2ImgPipeline

    init = noise_picture()
    pipeline = StableDiffusionImg2ImgPipeline(**family.pipeline().components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = samplers.build(samplers.resolve(sampler), family.scheduler_config)
    theirs = pipeline(
        ["a cat"] * 2,
        image=[init, init],
        strength=0.6,
        num_inference_steps=5,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
    ).images
    asked = [
        Request("a cat", seed=seed, steps=5, guidance_scale=5.0, sampler=sampler, init=init, strength=0.6)
        for seed in (0, 1)
    ]
    for ours, other in zip(generate.draw(family, asked), theirs, strict=True):
        assert np.abs(np.asarray(ours.image).astype(int) - np.asarray(other)).max() <= 1  # they sum in another order
        assert "Denoising strength: 0.6" in ours.infotext


def test_a_low_strength_stays_nearer_to_the_picture(family: Any) -> None:
    init = noise_picture()
    asked = [Request("a", steps=10, init=init, strength=strength, sampler="DDIM") for strength in (0.1, 1.0)]
    near, far = generate.draw(family, asked)
    plain = next(generate.draw(family, [Request("a", steps=10, sampler="DDIM")]))
    assert not np.array_equal(near.image, far.image)
    assert not np.array_equal(far.image, plain.image), "the posterior's noise is drawn first"


def test_a_strength_below_one_step_is_refused(family: Any) -> None:
    with pytest.raises(ConfigError, match=r"strength: 0\.1 of 5 steps is less than one step"):
        list(generate.draw(family, [Request("a", steps=5, init=noise_picture(), strength=0.1)]))


@pytest.mark.parametrize("sampler", ["DDIM", "DPM++ 2M", "Euler a", "Heun", "PLMS"])
@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_inpainting_changes_the_mask_and_not_one_pixel_outside(family: Any, sampler: str, strength: float) -> None:
    init, mask = noise_picture(), Image.new("L", (32, 32))
    mask.paste(255, (3, 5, 20, 18))
    (picture,) = generate.draw(
        family, [Request("a", steps=5, init=init, mask=mask, strength=strength, sampler=sampler)]
    )
    inside = np.asarray(mask) > 0
    before, after = np.asarray(init), np.asarray(picture.image)
    assert np.array_equal(before[~inside], after[~inside])
    assert not np.array_equal(before[inside], after[inside])
    assert set(picture.provenance["request"]) >= {"init", "mask", "strength"}


def test_a_picture_of_another_size_is_filled_in_without_distortion(family: Any) -> None:
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste("blue", (16, 0, 48, 32))
    mask = Image.new("L", (64, 32))
    (picture,) = generate.draw(family, [Request("a", steps=2, init=wide, mask=mask, strength=1.0)])
    assert picture.image.size == (32, 32)
    assert picture.image.getpixel((16, 16)) == (0, 0, 255)
    assert picture.image.getpixel((31, 16)) == (0, 0, 255), "cut at the sides, not squeezed"


def test_a_base_whose_denoiser_wants_more_than_noise_and_text_is_refused(tmp_path: Path) -> None:
    family = families.load(str(make_tiny_sd(tmp_path / "eight", in_channels=8)))
    with pytest.raises(ModelError, match="takes 8 channels but a picture has 4"):
        list(generate.draw(family, requests(1)))


def test_in_bfloat16_the_noise_is_that_of_float32(tiny_sd: Path) -> None:
    import torch

    half = families.load(str(tiny_sd), dtype=torch.bfloat16)
    full = families.load(str(tiny_sd))
    asked = requests(1, sampler="Euler a", guidance_scale=1)
    one, other = (pixels(generate.draw(each, asked))[0] for each in (half, full))
    assert np.abs(one - other).mean() < 2, "measured: 0.3; with other noise: 37"
