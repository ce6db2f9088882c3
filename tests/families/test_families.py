"""Every family's arithmetic against diffusers' own pipeline of its architecture, on small random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_families
import torch

from brushwork import families, generate
from brushwork.errors import ConfigError
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.values import Family

PROMPT, OTHER = "a Cat, sitting", "an old mill by the river"
STEPS = 3
SAME = 1
"""So far may a pixel of 0 to 255 be off: sums in another order."""
every_family = pytest.mark.parametrize("name", tiny_families.MAKERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's small pipeline, made when it is first asked for."""
    return tiny_families.kept(tmp_path_factory.mktemp("families"))


@pytest.fixture
def load(folders: Callable[[str], Path]) -> Callable[[str], Family]:
    """Load a family's small pipeline by its name."""
    return lambda name: families.load(str(folders(name)))


def encoded(pipeline: Any, name: str, texts: list[str]) -> dict[str, torch.Tensor]:
    """Return what the family's pipeline makes of prompts."""
    with torch.no_grad():
        if name == "sdxl":
            states, _, pooled, _ = pipeline.encode_prompt(texts, device="cpu", do_classifier_free_guidance=False)
        elif name == "sd3":
            states, _, pooled, _ = pipeline.encode_prompt(
                texts, None, None, device="cpu", do_classifier_free_guidance=False
            )
        elif name == "flux":
            states, pooled, _ = pipeline.encode_prompt(texts, device="cpu")
        elif name == "flux2":
            return {"states": pipeline.encode_prompt(texts, device="cpu")[0]}
        elif name == "sana":
            from brushwork.families.sana import instruction

            states, mask, *_ = pipeline.encode_prompt(
                texts, False, device="cpu", complex_human_instruction=instruction()
            )
            return {"states": states, "mask": mask}
        elif name == "qwen_image":
            rows = [pipeline.encode_prompt([text], device="cpu")[0] for text in texts]
            return padded(rows)
        else:
            return padded([each[None] for each in pipeline.encode_prompt(list(texts), device="cpu")[0]])
    return {"states": states, "pooled": pooled}


def padded(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pad states (1, tokens, width) to 512 tokens, as both families that have a mask are given them."""
    lengths = [row.shape[1] for row in rows]
    states = [torch.nn.functional.pad(row, (0, 0, 0, 512 - length)) for row, length in zip(rows, lengths, strict=True)]
    mask = [[1] * length + [0] * (512 - length) for length in lengths]
    return {"states": torch.cat(states), "mask": torch.tensor(mask)}


@every_family
def test_text_states_equal_the_pipelines(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    theirs = encoded(family.pipeline(), name, [PROMPT, OTHER])
    with torch.no_grad():
        ours = family.encode_text([PROMPT, OTHER]).tensors
    assert ours.keys() == theirs.keys()
    if "mask" in ours:
        assert torch.equal(ours["mask"], theirs["mask"])
        ours["states"] = ours["states"] * ours["mask"][..., None]
        theirs["states"] = theirs["states"] * theirs["mask"][..., None]
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-5)


def reference_latents(pipeline: Any, name: str, pixels: torch.Tensor) -> torch.Tensor:
    """Encode and scale as diffusers' training scripts and image pipelines do, without noise."""
    vae = pipeline.vae
    if name == "sana":
        return vae.encode(pixels).latent * vae.config.scaling_factor
    if name == "flux2":
        patches = pipeline._patchify_latents(vae.encode(pixels).latent_dist.mode())
        variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps
        return (patches - vae.bn.running_mean.view(1, -1, 1, 1)) / variance.sqrt()
    if name == "qwen_image":
        latents = vae.encode(pixels.unsqueeze(2)).latent_dist.mode()[:, :, 0]
        mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (vae.config.latents_mean, vae.config.latents_std))
        return (latents - mean) / std
    shift = vae.config.shift_factor or 0.0
    return (vae.encode(pixels).latent_dist.mode() - shift) * vae.config.scaling_factor


@every_family
def test_latents_equal_the_training_scripts_and_decode_back(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        moments = family.encode_images(pixels)
        ours = family.scale_latents(moments.mean)
        torch.testing.assert_close(ours, reference_latents(family.pipeline(), name, pixels))
        assert tuple(ours.shape[1:]) == (family.latent_channels, *[32 // family.pixels_per_latent] * 2)
        again = family.scale_latents(unscaled(family, ours))
    torch.testing.assert_close(again, ours, rtol=1e-4, atol=1e-4)


def unscaled(family: Family, latents: torch.Tensor) -> torch.Tensor:
    """Return what ``decode_latents`` gives the decoder, in the form of ``encode_images``."""
    seen = []
    vae: Any = family.vae
    plain = vae.decode
    vae.decode = lambda given, **_: (seen.append(given), plain(given))[1]
    try:
        family.decode_latents(latents)
    finally:
        vae.decode = plain
    given: torch.Tensor = seen[0]
    if given.ndim == 5:
        given = given[:, :, 0]
    return given if given.shape[1] == family.latent_channels else torch.nn.functional.pixel_unshuffle(given, 2)


def drawn(pipeline: Any, name: str, scale: float) -> np.ndarray[Any, Any]:
    """Draw with the family's own pipeline, at guidance ``scale`` as it is meant here."""
    settings: dict[str, Any] = {"guidance_scale": scale}
    if name == "qwen_image":
        settings = {"true_cfg_scale": scale, "negative_prompt": ""}
    elif name == "z_image":
        settings = {"guidance_scale": scale - 1}
    elif name == "sana":
        settings |= {"use_resolution_binning": False}
    generator = torch.Generator().manual_seed(3)
    whole = pipeline(prompt=PROMPT, num_inference_steps=STEPS, height=32, width=32, generator=generator, **settings)
    return np.asarray(whole.images[0], float)


@every_family
@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_a_whole_picture_equals_the_pipelines(name: str, scale: float, load: Callable[[str], Family]) -> None:
    family = load(name)
    sampler = family.sampling.sampler if family.sampling else "Euler"
    request = generate.Request(PROMPT, seed=3, steps=STEPS, guidance_scale=scale, sampler=sampler, width=32, height=32)
    ours = np.asarray(next(generate.draw(family, [request])).image, float)
    pipeline = family.pipeline()
    if family.flow is None:
        from brushwork import samplers

        pipeline.scheduler = samplers.build(samplers.resolve(sampler), family.scheduler_config)
    assert ours.std() > 5
    assert np.abs(ours - drawn(pipeline, name, scale)).max() <= SAME


@every_family
def test_a_picture_does_not_depend_on_its_batch_nor_on_other_prompts(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    latents = torch.randn(2, family.latent_channels, *[32 // family.pixels_per_latent] * 2)
    times = torch.tensor([300.0, 700.0]) if family.flow else torch.tensor([300, 700])
    with torch.no_grad():
        conditioning = family.encode_text([PROMPT, OTHER])
        both = family.predict(latents, times, conditioning)
        for row in range(2):
            alone = family.predict(latents[row : row + 1], times[row : row + 1], conditioning.rows(torch.tensor([row])))
            torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@every_family
def test_a_saved_family_comes_back(name: str, load: Callable[[str], Family], tmp_path: Path) -> None:
    family = load(name)
    family.save(tmp_path / "saved")
    again = families.load(str(tmp_path / "saved"))
    assert (again.name, again.fingerprint, again.sampling) == (name, family.fingerprint, family.sampling)
    assert again.flow is None or again.flow.shift == family.flow.shift  # type: ignore[union-attr]


@every_family
def test_what_a_text_encoder_does_not_read_is_said(name: str, load: Callable[[str], Family]) -> None:
    family = load(name)
    assert family.unread(PROMPT) == ""
    assert "the end" in family.unread("word " * 300 + "the end")


def test_two_families_never_share_a_cache(load: Callable[[str], Family]) -> None:
    every = [load(name) for name in ("sd3", "flux", "z_image")]
    assert len({family.vae_fingerprint for family in every}) == len(every)


def test_sdxl_is_told_size_and_crop(load: Callable[[str], Family]) -> None:
    """The six numbers reach the UNet as ``added_cond_kwargs``; without them the picture is whole."""
    family = load("sdxl")
    latents, times = torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    geometry = torch.tensor([[640, 480, 7, 0, 32, 32], [32, 32, 0, 0, 32, 32]])
    with torch.no_grad():
        told = family.encode_text([PROMPT, OTHER])
        ours = family.predict(latents, times, told.told(geometry=geometry))
        added = {"text_embeds": told.tensors["pooled"], "time_ids": geometry.float()}
        theirs = family.denoiser(
            latents, times, encoder_hidden_states=told.tensors["states"], added_cond_kwargs=added
        ).sample
        plain = family.predict(latents, times, told)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(plain[1], ours[1])
    assert not torch.allclose(plain[0], ours[0])


def test_sdxl_takes_zeros_for_an_empty_negative_prompt(load: Callable[[str], Family]) -> None:
    family: Any = load("sdxl")
    with torch.no_grad():
        negative = family.encode_negative(["", OTHER]).tensors
        said = family.encode_text(["", OTHER]).tensors
    for key, value in negative.items():
        assert not value[0].any()
        assert torch.equal(value[1], said[key][1])


def test_sd3_without_t5_is_told_zeros(load: Callable[[str], Family], tmp_path: Path) -> None:
    pipeline = load("sd3").pipeline()
    pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)
    pipeline.save_pretrained(tmp_path / "small")
    family = families.load(str(tmp_path / "small"))
    assert set(family.text_encoders) == {"text_encoder", "text_encoder_2"}
    with torch.no_grad():
        ours = family.encode_text([PROMPT]).tensors["states"]
        theirs = encoded(family.pipeline(), "sd3", [PROMPT])["states"]
    torch.testing.assert_close(ours, theirs)


def test_flux_packs_as_its_pipeline_does() -> None:
    from diffusers import FluxPipeline

    from brushwork.controlnet.kinds import packed as packed_of
    from brushwork.families import flux

    latents = torch.randn(2, 4, 6, 8)
    packed = FluxPipeline._pack_latents(latents, 2, 4, 6, 8)
    assert torch.equal(packed_of(latents), packed)
    assert torch.equal(flux.unpack(packed, 6, 8), latents)
    assert torch.equal(
        flux.places(3, 4, latents), FluxPipeline._prepare_latent_image_ids(1, 3, 4, "cpu", torch.float32)
    )


def test_schnell_has_no_guidance_of_its_own(tmp_path: Path) -> None:
    family = families.load(str(tiny_families.make("flux", tmp_path / "schnell", guidance_embeds=False)))
    assert (family.guidance, family.sampling.steps if family.sampling else 0) == ("free", 4)
    ours = family.predict(torch.randn(1, 4, 8, 8), torch.tensor([500.0]), family.encode_text([PROMPT]))
    assert ours.shape == (1, 4, 8, 8)


def test_dev_is_told_its_guidance(load: Callable[[str], Family]) -> None:
    family = load("flux")
    latents, times = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    with torch.no_grad():
        told = family.encode_text([PROMPT])
        usual, high = (family.predict(latents, times, told.told(guidance=torch.tensor([each]))) for each in (3.5, 9.0))
        assert torch.equal(family.predict(latents, times, told), usual)
    assert not torch.allclose(usual, high)


@pytest.mark.parametrize(("name", "published"), [("flux2", "compute_empirical_mu"), ("flux", "calculate_shift")])
@pytest.mark.parametrize("tokens", [256, 1024, 4096, 8000])
def test_the_shift_follows_the_pictures_size_as_published(
    name: str, published: str, tokens: int, load: Callable[[str], Family]
) -> None:
    from diffusers.pipelines.flux import pipeline_flux
    from diffusers.pipelines.flux2 import pipeline_flux2_klein

    flow = load(name).flow
    assert flow is not None
    assert flow.mu is not None
    module = pipeline_flux2_klein if name == "flux2" else pipeline_flux
    theirs = getattr(module, published)
    assert flow.mu(tokens, 28) == pytest.approx(theirs(tokens, 28) if name == "flux2" else theirs(tokens))


def test_a_folder_with_other_classes_is_loaded_by_the_familys(load: Callable[[str], Family], tmp_path: Path) -> None:
    """What the index says besides is not believed: no class is looked up by its name there."""
    import json

    load("flux").save(tmp_path / "hostile")
    index = json.loads((tmp_path / "hostile" / "model_index.json").read_text())
    index["transformer"] = ["evil", "Evil"]
    (tmp_path / "hostile" / "model_index.json").write_text(json.dumps(index))
    assert families.load(str(tmp_path / "hostile")).name == "flux"


def test_one_step_of_a_stretched_schedule_is_refused(load: Callable[[str], Family]) -> None:
    request = generate.Request(PROMPT, steps=1, sampler="Euler", width=32, height=32)
    with pytest.raises(ConfigError, match="draw in 2 or more"):
        next(generate.draw(load("qwen_image"), [request]))


def test_what_a_base_cannot_be_asked_is_refused(load: Callable[[str], Family]) -> None:
    for family, settings, message in (
        (load("flux"), {"negative_prompt": "blur", "width": 32, "height": 32}, "told the guidance as a number"),
        (load("flux"), {"width": 36, "height": 32}, "multiple of 8; nearest: 32"),
        (load("sd3"), {"sampler": "DDIM", "width": 32, "height": 32}, "is a flow model"),
    ):
        with pytest.raises(ConfigError, match=message):
            next(generate.draw(family, [generate.Request(PROMPT, **settings)]))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_picture_is_changed_by_a_flow_as_diffusers_does(strength: float, load: Callable[[str], Family]) -> None:
    """img2img of StableDiffusion3Img2ImgPipeline: the posterior is sampled, then noise is mixed in up to sigma."""
    from diffusers import StableDiffusion3Img2ImgPipeline
    from PIL import Image

    family = load("sd3")
    start = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    request = generate.Request(
        PROMPT, seed=3, steps=4, guidance_scale=1.0, sampler="Euler", init=start, strength=strength, width=32, height=32
    )
    ours = np.asarray(next(generate.draw(family, [request])).image, float)
    pipeline = StableDiffusion3Img2ImgPipeline(**family.pipeline().components)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=PROMPT, image=start, strength=strength, num_inference_steps=4, guidance_scale=1.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    if strength < 1:
        assert np.abs(ours - np.asarray(theirs, float)).max() <= SAME
    else:
        assert ours.std() > 5  # all noise: here the picture is gone, there a trace of rounding decides


def test_conditioning_says_more_without_changing() -> None:
    first = Conditioning({"states": torch.zeros(1)})
    assert set(first.told(guidance=torch.ones(1)).tensors) == {"states", "guidance"}
    assert set(first.tensors) == {"states"}
