"""Unmodified clients from the package index: A1111's ``webuiapi`` and the official ``openai``."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image
from served import serving

from brushwork.infotext import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from served import Server

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, "seed": 7, "cfg_scale": 5}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As users start it; other tests' servers are forked."""
    with serving(tmp_path_factory.mktemp("clients"), "--token", TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def web(server: Server) -> webuiapi.WebUIApi:
    port = int(server.url.split("?")[0].rstrip("/").rsplit(":", 1)[1])
    return webuiapi.WebUIApi(host="127.0.0.1", port=port, username="anyone", password=TOKEN)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url.split("?")[0] + "v1", api_key=TOKEN, max_retries=0) as made:
        yield made


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"), int)


def test_txt2img_and_png_info(web: webuiapi.WebUIApi) -> None:
    drawn = web.txt2img(prompt="a dog", negative_prompt="a cat", sampler_name="Euler a", batch_size=2, **SMALL)
    assert len(drawn.images) == 2
    assert (pixels(drawn.images[0]) != pixels(drawn.images[1])).any()
    assert drawn.info["all_seeds"] == [7, 8]
    assert drawn.info["infotexts"][1].splitlines()[-1].startswith("Steps: 3, Sampler: Euler a,")
    assert drawn.parameters["prompt"] == "a dog"
    info = web.png_info(drawn.images[0])
    assert "Negative prompt: a cat" in info.info


def test_an_xyz_plot_has_the_pictures_that_are_drawn_alone(web: webuiapi.WebUIApi) -> None:
    off, rest = [0, "", []], [True, True, False, False, False, False, False, 0, False]
    args = [4, "2,3", [], 7, "dog, cat", [], *off, *rest]
    drawn = web.txt2img(
        prompt="a dog", sampler_name="Euler a", script_name="x/y/z plot", script_args=args, **{**SMALL, "steps": 9}
    )
    assert len(drawn.images) == 1 + 4
    alone = web.txt2img(prompt="a cat", sampler_name="Euler a", **SMALL)
    assert np.abs(pixels(drawn.images[4]) - pixels(alone.image)).max() <= 1
    assert drawn.info["infotexts"][4].startswith("a cat\nSteps: 3,")
    assert web.png_info(drawn.images[0]).info.count("Type") == 2
    start: dict[str, Any] = {"images": [alone.image], "prompt": "a dog", **SMALL}  # where Denoising has another place
    cells = web.img2img(script_name="x/y/z plot", script_args=[25, "0.4,0.9", [], *args[3:]], **start).images
    strong = web.img2img(denoising_strength=0.9, **start).image
    assert np.abs(pixels(cells[2]) - pixels(strong)).max() <= 1
    assert (pixels(cells[1]) != pixels(strong)).any()


def test_a_model_switch_by_title_and_the_wait_for_it(web: webuiapi.WebUIApi) -> None:
    assert web.util_get_model_names() == ["mini"]
    web.util_set_model("mini")
    web.util_wait_for_ready()
    assert web.util_get_current_model() == "mini"
    assert web.get_options()["sd_model_checkpoint"] == "mini"


def test_img2img_with_a_mask_repaints_the_white_part(web: webuiapi.WebUIApi) -> None:
    start, mask = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "black")
    mask.paste((255, 255, 255), (0, 0, 32, 64))
    drawn = web.img2img(
        images=[start], mask_image=mask, mask_blur=0, inpainting_fill=1, inpaint_full_res=False,
        denoising_strength=0.9, prompt="a dog", **SMALL,
    )  # fmt: skip
    assert (pixels(drawn.image)[:, 32:] == (255, 0, 0)).all()
    assert (pixels(drawn.image)[:, :32] != (255, 0, 0)).any()


def test_the_other_calls_of_webuiapi(web: webuiapi.WebUIApi) -> None:
    assert web.get_samplers()[0]["name"] == "Euler a"
    assert web.get_progress()["progress"] == 0
    assert web.interrupt() == {}
    assert web.skip() == {}
    assert web.get_loras() == []
    assert web.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert web.get_sd_vae() == []
    assert web.get_upscalers()[0]["name"] == "None"
    assert web.get_face_restorers() == []
    assert web.get_memory()["ram"]["total"] > 0
    assert web.refresh_checkpoints() is None
    assert web.get_scripts() == {"txt2img": ["x/y/z plot"], "img2img": ["x/y/z plot"]}
    assert web.set_options(web.get_options()) is None


def test_extras_styles_and_interrogate(web: webuiapi.WebUIApi, server: Server) -> None:
    image = Image.new("RGB", (64, 48), "red")
    assert web.extra_single_image(image=image, upscaler_1="Lanczos", upscaling_resize=2).image.size == (128, 96)
    both = web.extra_batch_images(images=[image, image], upscaler_1="Nearest", resize_mode=1, upscaling_resize_w=20,
                                  upscaling_resize_h=30)  # fmt: skip
    assert [each.size for each in both.images] == [(20, 30)] * 2
    with pytest.raises(RuntimeError, match="Did you mean Lanczos"):
        web.extra_single_image(image=image, upscaler_1="Lancos")
    assert web.interrogate(image).info
    styles = server.log.parent / "served" / "styles.csv"
    styles.write_text('name,prompt,negative_prompt\nred,"{prompt} on a red background",blue\n')
    assert web.get_prompt_styles() == [
        {"name": "red", "prompt": "{prompt} on a red background", "negative_prompt": "blue"}
    ]
    drawn = web.txt2img(prompt="a dog", styles=["red"], sampler_name="Euler", **SMALL)
    assert drawn.info["infotexts"][0].startswith("a dog on a red background\nNegative prompt: blue\n")
    with pytest.raises(RuntimeError, match="Did you mean red"):
        web.txt2img(prompt="a dog", styles=["rad"], **SMALL)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"restore_faces": True}, "restore_faces: this server cannot do it"),
        ({"enable_hr": True, "hr_upscaler": "Lancos"}, "Did you mean Lanczos"),
        ({"enable_hr": True, "hr_scale": 0.5}, "greater than or equal to 1"),
        ({"enable_hr": True, "hr_checkpoint_name": "other"}, "hr_checkpoint_name: this server cannot do it"),
        ({"subseed_strength": 2}, "less than or equal to 1"),
        (
            {"seed_resize_from_w": 64, "seed_resize_from_h": 100_000},
            "seed_resize.height: 100000 is more than",
        ),
        ({"sampler_name": "DPM fast"}, "not available"),
        ({"scheduler": "unheard"}, "scheduler: there is no 'unheard'"),
        ({"override_settings": {"sd_model_checkpoint": "nix"}}, "model: there is no 'nix'"),
        ({"override_settings": {"initial_noise_multiplier": 9}}, "initial_noise_multiplier: 9 is not a number from 0"),
        ({"override_settings": {"inpainting_mask_weight": 0.5}}, "inpainting_mask_weight"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_else_is_drawn(
    web: webuiapi.WebUIApi, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        web.txt2img(prompt="a dog", **{**SMALL, **given})
    assert caught.value.args[0] == 422
    assert said in caught.value.args[1]


def test_openai_generate_with_the_seed_in_extra_fields(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="mini",
        prompt="a dog",
        size="64x64",
        n=2,
        extra_body={"seed": 7, "num_inference_steps": 3, "clip_skip": 2},
    )
    assert len(answer.data or []) == 2
    data = [base64.b64decode(each.b64_json or "") for each in answer.data or []]
    assert [(each.model_extra or {})["seed"] for each in answer.data or []] == [7, 8]
    assert read_bytes(data[0]).fields["Steps"] == "3"
    assert read_bytes(data[0]).fields["Clip skip"] == "2"
    jpeg = client.images.generate(
        prompt="a dog", size="64x64", output_format="jpeg", extra_body={"num_inference_steps": 1}
    )
    with Image.open(io.BytesIO(base64.b64decode((jpeg.data or [])[0].b64_json or ""))) as image:
        assert image.format == "JPEG"


def test_openai_streams_previews_and_then_the_picture(client: openai.OpenAI) -> None:
    steps = {"num_inference_steps": 30}
    events = list(client.images.generate(prompt="a dog", size="64x64", stream=True, partial_images=2, extra_body=steps))
    assert events[-1].type == "image_generation.completed"
    assert {each.type for each in events[:-1]} <= {"image_generation.partial_image"}
    assert base64.b64decode(events[-1].b64_json).startswith(b"\x89PNG")


def test_openai_edit_draws_where_the_mask_is_transparent(client: openai.OpenAI) -> None:
    start, mask = Image.new("RGB", (64, 64), "red"), Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    files = []
    for image in (start, mask):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    more = {"seed": 1, "strength": 0.9, "num_inference_steps": 4}
    answer = client.images.edit(image=files[0], mask=files[1], prompt="a dog", extra_body=more)
    with Image.open(io.BytesIO(base64.b64decode((answer.data or [])[0].b64_json or ""))) as drawn:
        assert (pixels(drawn)[:, 32:] == (255, 0, 0)).all()
        assert (pixels(drawn)[:, :32] != (255, 0, 0)).any()


def test_openai_models_and_errors(client: openai.OpenAI, server: Server) -> None:
    assert [each.id for each in client.models.list()] == ["mini"]
    assert client.models.retrieve("mini").id == "mini"
    with pytest.raises(openai.NotFoundError, match="Did you mean mini"):
        client.models.retrieve("mimi")
    with pytest.raises(openai.BadRequestError, match="unheard") as caught:
        client.images.generate(prompt="a dog", extra_body={"unheard": 1})
    assert caught.value.param == "unheard"
    with pytest.raises(openai.BadRequestError, match="neither auto nor"):
        client.images.generate(prompt="a dog", size="big")  # type: ignore[call-overload]
    stranger = openai.OpenAI(base_url=server.url.split("?")[0] + "v1", api_key="guess", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
