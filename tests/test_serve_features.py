"""Variation, inpainting, second passes, tiling and token counts, asked of a running server as clients ask for them."""

from __future__ import annotations

import base64
import copy
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import webuiapi
from PIL import Image
from served import serving
from tiny import make_tiny_sd

from brushwork import families, generate
from brushwork.hires import Hires
from brushwork.infotext import read_bytes
from brushwork.serve.easel import Easel, EaselConfig, Request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    from served import Server
    from warm import Server as Warm

QUICK: dict[str, Any] = {"prompt": "a dog", "steps": 3, "seed": 5, "guidance_scale": 4, "width": 32, "height": 32}
WEB: dict[str, Any] = {"prompt": "a dog", "steps": 3, "seed": 5, "cfg_scale": 4, "width": 32, "height": 32}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Server]:
    from diffusers import DiffusionPipeline, LatentConsistencyModelPipeline, LCMScheduler

    root = tmp_path_factory.mktemp("features")
    parts = DiffusionPipeline.from_pretrained(make_tiny_sd(root / "sd", time_cond_proj_dim=8)).components
    parts |= {"scheduler": LCMScheduler.from_config(parts["scheduler"].config), "requires_safety_checker": False}
    LatentConsistencyModelPipeline(**parts).save_pretrained(root / "models" / "lcm")
    other_vae(root / "models" / "other")
    with serving(root, "--models", str(root / "models"), warm=warm) as running:
        yield running


@pytest.fixture(scope="module")
def web(server: Server) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rstrip("/").rsplit(":", 1)[1]))


def other_vae(folder: Path) -> None:
    """Write mini's VAE with a darker last layer."""
    vae: Any = copy.deepcopy(families.load("mini").vae)
    vae.decoder.conv_out.bias.data -= 0.5
    vae.save_pretrained(folder)


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"), int)


def pictures(server: Server, job: dict[str, Any]) -> list[bytes]:
    assert job["state"] == "done", job["error"]
    with server.client() as client:
        return [client.get(f"/api/v1/images/{each['id']}").content for each in job["pictures"]]


def opened(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return pixels(image)


def upload(server: Server, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with server.client() as client:
        return str(client.post("/api/v1/images", files={"file": buffer.getvalue()}).json()["id"])


def test_a_job_with_everything_is_the_picture_of_generate(server: Server) -> None:
    hires = {"scale": 2, "upscaler": "Lanczos", "steps": 2, "strength": 0.5}
    asked = {"variation_seed": 9, "variation_strength": 0.3, "tiling": True}
    drawn = pictures(server, server.draw(kind="txt2img", n=2, **QUICK, **asked, hires=hires))
    requests = [
        generate.Request(**QUICK, grammar=True, **{**asked, "variation_seed": seed}, hires=Hires(**hires))  # type: ignore[arg-type]
        for seed in (9, 10)
    ]
    expected = list(generate.draw(families.load("mini"), requests))
    for data, picture in zip(drawn, expected, strict=True):
        assert opened(data).shape == (64, 64, 3)
        assert np.abs(opened(data) - pixels(picture.image)).max() <= 1
    fields = [read_bytes(data).fields for data in drawn]
    assert [each["Variation seed"] for each in fields] == ["9", "10"]
    assert [each["Seed"] for each in fields] == ["5", "5"]


def test_an_inpainting_job_draws_only_the_masked_part(server: Server) -> None:
    levels = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)
    start, mask = Image.fromarray(levels), Image.new("L", (80, 48), 0)
    mask.paste(255, (30, 10, 46, 26))
    settings = {"strength": 0.9, "noise_multiplier": 0.8, "masked_content": "latent noise", "only_masked_padding": 4}
    ids = {"init": upload(server, start), "mask": upload(server, mask)}
    (data,) = pictures(server, server.draw(kind="inpaint", **QUICK, **settings, **ids))
    request = generate.Request(**QUICK, **settings, grammar=True, init=start, mask=mask)  # type: ignore[arg-type]
    expected = next(generate.draw(families.load("mini"), [request]))
    assert np.abs(opened(data) - pixels(expected.image)).max() <= 1
    assert opened(data).shape == (48, 80, 3)
    assert (opened(data)[np.asarray(mask) == 0] == levels[np.asarray(mask) == 0]).all()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hires": {}}, "say how large"),
        ({"hires": {"scale": 2, "steps": 151}}, "hires.steps: 151 is more than the limit"),
        ({"hires": {"width": 4096}}, "hires.width: 4096 is more than the limit"),
        ({"hires": {"scale": 2, "prompt": "<lora:ink:1>"}}, "hires.prompt: a model has its adapters in both"),
        ({"variation_strength": 2}, "less than or equal to 1"),
    ],
)
def test_what_is_too_much_is_refused_at_once(server: Server, more: dict[str, Any], said: str) -> None:
    with server.client() as client:
        answer = client.post("/api/v1/jobs", json={"kind": "txt2img", **QUICK, **more})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_the_size_that_only_the_worker_knows_is_limited_too(tmp_path: Path) -> None:
    """Without a width it is the model's own, 64 pixels for mini, times the scale."""
    told: list[dict[str, Any]] = []
    easel = Easel(EaselConfig(device="cpu", side=100), told.append)
    draw = {"prompt": "a dog", "hires": {"scale": 2}}
    easel.ask(Request(id="p1", base="mini", draw=draw, out=str(tmp_path / "p1.png")))
    assert not easel.turn()
    assert (told[-1]["event"], told[-1]["id"]) == ("failed", "p1")
    assert told[-1]["message"] == "hires.width: 128 is more than the limit of this server, 100"


def test_tokens_are_counted_as_the_model_reads_them(server: Server) -> None:
    def count(text: str, model: str = "mini") -> httpx.Response:
        with server.client() as client:
            return client.post("/api/v1/tokens", json={"model": model, "text": text})

    tokenizer = families.load("mini").tokenizers["text_encoder"]
    plain = len(tokenizer("a red dog", add_special_tokens=False).input_ids)
    room = tokenizer.model_max_length - 2
    assert count("a red dog").json() == {"tokens": plain, "chunks": 1, "limit": room, "unread": ""}
    assert count("a (red:1.3) dog <lora:ink:0.5>").json()["tokens"] == plain
    assert count("a red dog BREAK a red dog").json() == {
        "tokens": 2 * plain, "chunks": 2, "limit": 2 * room, "unread": "",
    }  # fmt: skip
    assert count("").json()["tokens"] == 0
    assert count("a", "mimi").status_code == 422
    assert "its own pipeline" in count("a", "lcm").json()["error"]["message"]
    assert "limit of this server" in count("a" * 9000).json()["error"]["message"]


def test_a_family_that_draws_by_itself_is_drawn_alone(server: Server) -> None:
    asked = {"model": "lcm", "sampler": "LCM"}
    job = server.draw(kind="txt2img", n=2, **QUICK, **asked)
    first, second = map(opened, pictures(server, job))
    assert (first != second).any()
    folder = server.log.parent / "models" / "lcm"
    request = generate.Request(**QUICK, sampler="LCM")
    assert (first == pixels(next(generate.draw(families.load(str(folder)), [request])).image)).all()
    for more, said in (({"tiling": True}, "tiling: this base"), ({"prompt": "a (red:1.3) dog"}, "reads plain text")):
        refused = server.draw(kind="txt2img", **{**QUICK, **asked, **more})
        assert said in refused["error"]["message"]
    assert server.draw(kind="txt2img", **QUICK)["state"] == "done"


def test_webuiapi_asks_for_a_second_pass_a_variation_and_tiling(web: webuiapi.WebUIApi, server: Server) -> None:
    drawn = web.txt2img(
        **WEB, batch_size=2, subseed=9, subseed_strength=0.3, tiling=True, enable_hr=True, hr_scale=2,
        hr_upscaler="Lanczos", hr_second_pass_steps=2, denoising_strength=0.5, sampler_name="Euler",
        seed_resize_from_w=48, seed_resize_from_h=16,
    )  # fmt: skip
    assert [each.size for each in drawn.images] == [(64, 64)] * 2
    assert (drawn.info["all_seeds"], drawn.info["all_subseeds"]) == ([5, 5], [9, 10])
    hires = Hires(scale=2, upscaler="Lanczos", steps=2, strength=0.5)
    request = generate.Request(
        "a dog", seed=5, steps=3, guidance_scale=4, width=32, height=32, sampler="Euler", grammar=True, tiling=True,
        variation_seed=9, variation_strength=0.3, seed_resize=(48, 16), hires=hires,
    )  # fmt: skip
    expected = next(generate.draw(families.load("mini"), [request]))
    assert np.abs(pixels(drawn.images[0]) - pixels(expected.image)).max() <= 1
    assert "Hires upscale: 2, " in drawn.info["infotexts"][0]
    assert (drawn.info["seed_resize_from_w"], drawn.info["seed_resize_from_h"]) == (48, 16)
    with server.client() as client:
        again = client.post("/sdapi/v1/txt2img", json={"infotext": drawn.info["infotexts"][0]}).json()["images"][0]
    assert np.abs(opened(base64.b64decode(again)) - pixels(expected.image)).max() <= 1


def test_another_vae_is_drawn_with_and_named(web: webuiapi.WebUIApi, server: Server) -> None:
    with server.client() as client:
        assert [each["name"] for each in client.get("/api/v1/vaes").json()] == ["other"]
    assert [each["model_name"] for each in web.get_sd_vae()] == ["other"]
    own, other = (
        web.txt2img(**WEB, sampler_name="Euler", override_settings=override) for override in ({}, {"sd_vae": "other"})
    )
    assert pixels(other.image).mean() < pixels(own.image).mean() - 20
    assert "VAE: other" in other.info["infotexts"][0]
    assert "VAE" not in own.info["infotexts"][0]
    (data,) = pictures(server, server.draw(kind="txt2img", vae="other", sampler="Euler", **QUICK))
    assert (opened(data) == pixels(other.image)).all()
    with pytest.raises(RuntimeError, match="Did you mean other"):
        web.txt2img(**WEB, override_settings={"sd_vae": "uther"})


def test_a_grid_of_vaes_and_layers(server: Server) -> None:
    axes = [{"name": "vae", "values": ["other"]}, {"name": "clip_skip", "values": [1, 2]}]
    job = server.draw(kind="grid", axes=axes, **QUICK)
    assert [each["label"] for each in job["pictures"]] == ["clip_skip 1, vae other", "clip_skip 2, vae other"]
    first, second = pictures(server, job)
    assert read_bytes(second).fields["Clip skip"] == "2"
    assert read_bytes(first).fields["VAE"] == "other"
    assert (opened(first) != opened(second)).any()


def test_webuiapi_inpaints_only_the_masked_part_with_its_own_defaults(web: webuiapi.WebUIApi) -> None:
    start, mask = Image.new("RGB", (80, 48), "red"), Image.new("L", (80, 48), 0)
    mask.paste(255, (30, 10, 46, 26))
    drawn = web.img2img(images=[start], mask_image=mask, denoising_strength=0.9, **{**WEB, "steps": 4})
    assert drawn.image.size == (80, 48)
    assert (pixels(drawn.image)[:, :10] == (255, 0, 0)).all()
    assert (pixels(drawn.image)[18, 38] != (255, 0, 0)).any()
    said = drawn.info["infotexts"][0]
    assert "Mask blur: 4, Masked content: fill, Inpaint area: Only masked, Masked area padding: 0" in said


def test_the_noise_multiplier_is_an_option_of_the_client(web: webuiapi.WebUIApi, server: Server) -> None:
    start = {"images": [Image.new("RGB", (32, 32), "red")], "denoising_strength": 0.8, "sampler_name": "DDIM"}
    plain, quiet = (web.img2img(**start, **WEB, initial_noise_multiplier=times) for times in (1, 0.5))
    assert "Noise multiplier: 0.5" in quiet.info["infotexts"][0]
    assert (pixels(plain.image) != pixels(quiet.image)).any()
    web.set_options({"initial_noise_multiplier": 0.5})
    assert web.get_options()["initial_noise_multiplier"] == 0.5
    body = {"init_images": [webuiapi.raw_b64_img(start["images"][0])], "denoising_strength": 0.8, **WEB}  # type: ignore[index]
    with server.client() as client:
        answer = client.post("/sdapi/v1/img2img", json={**body, "sampler_name": "DDIM"}).json()
    assert "Noise multiplier: 0.5" in answer["info"]
    web.set_options({"initial_noise_multiplier": 1})
