"""ControlNets asked of a running server: natively, and by A1111's unmodified client."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import webuiapi
from PIL import Image
from served import Server, serving
from tiny_controls import make_control

from brushwork import families, generate, infotext, models
from brushwork.controlnet import Control, Module, networks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAST_BITS = 1
JOB: dict[str, Any] = {
    "kind": "txt2img", "model": "tiny-sd", "prompt": "a cat", "seed": 3, "steps": 3, "guidance_scale": 5,
    "sampler": "DDIM",
}  # fmt: skip


@pytest.fixture(scope="module")
def control(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_control(families.load(str(tiny_sd)), tmp_path_factory.mktemp("nets") / "edges")


@pytest.fixture(scope="module")
def server(control: Path, tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("controlled")
    make_control(families.load(str(tiny_sd)), folder / "controlnet" / "wide", cross_attention_dim=48)
    with serving(folder, "--controlnet", str(control.parent), "--models", str(tiny_sd.parent)) as running:
        yield running


@pytest.fixture
def web(server: Server) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{server.url.split('?')[0]}sdapi/v1", steps=3, sampler="DDIM")


def photo(seed: int = 1) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def pixels(data: bytes | Image.Image) -> np.ndarray[Any, Any]:
    image = data if isinstance(data, Image.Image) else Image.open(io.BytesIO(data))
    return np.asarray(image.convert("RGB")).astype(int)


def upload(server: Server, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    with server.client() as client:
        return str(client.post("/api/v1/images", files={"file": buffer.getvalue()}).json()["id"])


def picture(server: Server, shown: dict[str, Any]) -> np.ndarray[Any, Any]:
    assert shown["state"] == "done", shown["error"]
    with server.client() as client:
        return pixels(client.get(f"/api/v1/images/{shown['pictures'][0]['id']}").content)


def test_a_job_is_the_picture_of_generate_and_says_so(server: Server, tiny_sd: Path, control: Path) -> None:
    family = models.open_model(str(tiny_sd)).family
    network = networks.load(control, family)
    asked = {"model": "edges", "image": upload(server, photo()), "weight": 0.7, "guidance_end": 0.9, "module": "invert"}
    shown = server.draw(**JOB, controlnet=[asked])
    request = generate.Request(
        "a cat", seed=3, steps=3, guidance_scale=5, sampler="DDIM",
        controls=(Control(network, photo(), 0.7, end=0.9, module=Module("invert")),),
    )  # fmt: skip
    ours = np.asarray(next(generate.draw(family, [request])).image).astype(int)
    drawn = picture(server, shown)
    assert np.abs(drawn - ours).max() <= LAST_BITS
    assert f"Module: invert, Model: edges [{network.hash}], Weight: 0.7" in shown["pictures"][0]["infotext"]
    plain = picture(server, server.draw(**JOB))
    assert np.abs(drawn - plain).max() > LAST_BITS
    none = picture(server, server.draw(**JOB, controlnet=[asked | {"weight": 0}]))
    assert np.array_equal(none, plain)


def test_pictures_with_and_without_one_are_drawn_together(server: Server) -> None:
    """Four jobs at once, every other with a network: each is the one drawn alone."""
    image = upload(server, photo())
    jobs = [JOB | {"seed": seed, "steps": 4} for seed in range(4)]
    jobs = [job | ({"controlnet": [{"model": "edges", "image": image}]} if job["seed"] % 2 else {}) for job in jobs]
    together = [server.submit(**job)["id"] for job in jobs]
    beside = [picture(server, server.wait(each)) for each in together]
    for job, drawn in zip(jobs, beside, strict=True):
        assert np.abs(drawn - picture(server, server.draw(**job))).max() <= LAST_BITS


def test_the_openai_client_asks_for_one_in_its_extra_fields(server: Server) -> None:
    import base64

    import openai

    client = openai.OpenAI(base_url=f"{server.url.split('?')[0]}v1", api_key="-", max_retries=0)
    image = upload(server, photo())
    asked: dict[str, Any] = {"model": "edges", "weight": 0.7}
    extra = {"seed": 3, "num_inference_steps": 3, "guidance_scale": 5, "sampler": "DDIM"}
    plain = {"model": "tiny-sd", "prompt": "a cat", "size": "32x32"}
    shown = server.draw(**JOB, width=32, height=32, controlnet=[{**asked, "image": image}])
    made = client.images.generate(**plain, extra_body={**extra, "controlnet": [{**asked, "image": image}]})
    assert np.array_equal(pixels(base64.b64decode(made.data[0].b64_json)), picture(server, shown))  # type: ignore[index,arg-type]
    buffer = io.BytesIO()
    photo(2).save(buffer, format="PNG")
    changed = [
        client.images.edit(**plain, image=("a.png", buffer.getvalue()), extra_body={**extra, **more})
        for more in ({}, {"controlnet": json.dumps([asked])})
    ]
    first, second = (pixels(base64.b64decode(each.data[0].b64_json)) for each in changed)  # type: ignore[index,arg-type]
    assert np.abs(first - second).max() > LAST_BITS
    with pytest.raises(openai.BadRequestError, match="it needs the id of a picture"):
        client.images.generate(**plain, extra_body={**extra, "controlnet": [asked]})


def test_the_catalogue_names_them_and_a_picture_gives_its_fields_back(server: Server) -> None:
    with server.client() as client:
        said = client.get("/api/v1/controlnets").json()
        assert {each["name"] for each in said["controlnets"]} == {"edges", "wide"}
        assert said["modules"][0] == "none"
        assert {each["name"] for each in client.get("/api/v1/vaes").json()} == set()
        shown = server.draw(**JOB, controlnet=[{"model": "edges", "image": upload(server, photo())}])
        data = client.get(f"/api/v1/images/{shown['pictures'][0]['id']}").content
        read = client.post("/api/v1/metadata/parse", files={"file": data}).json()
    assert read["controlnet"][0] | {"weight": 1.0, "model": "edges", "module": "none"} == read["controlnet"][0]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "edge"}, "there is no 'edge'. Did you mean edges?"),
        ({"model": "../edges"}, "there is no '../edges'"),
        ({"weight": 3}, "less than or equal to 2"),
        ({"guidance_start": 0.5, "guidance_end": 0.2}, "guidance_start 0.5 is not before guidance_end 0.2"),
        ({"module": "depth"}, "Input should be 'none', 'canny' or 'invert'"),
        ({"image": "0123"}, "there is no picture '0123'"),
        ({"image": None}, "it needs the id of a picture"),
    ],
)
def test_what_cannot_be_is_refused_at_once(server: Server, asked: dict[str, Any], said: str) -> None:
    whole = {"model": "edges", "image": "0" * 32} | asked
    if asked.get("image", "") == "" and "image" not in asked:
        whole["image"] = upload(server, photo())
    with server.client() as client:
        answer = client.post("/api/v1/jobs", json={**JOB, "controlnet": [whole]})
        assert answer.status_code == 422
        assert said in answer.text
        many = client.post("/api/v1/jobs", json={**JOB, "controlnet": [whole | {"model": "edges"}] * 5})
        assert many.status_code == 422


def test_one_for_another_base_fails_with_both_numbers(server: Server) -> None:
    shown = server.draw(**JOB, controlnet=[{"model": "wide", "image": upload(server, photo())}])
    assert shown["state"] == "failed"
    assert "its cross_attention_dim is 48, that of the base is 32" in shown["error"]["message"]


def test_webuiapi_draws_with_units_and_reads_the_lists(web: webuiapi.WebUIApi, server: Server) -> None:
    web.util_set_model("tiny-sd")
    assert web.controlnet_version() == 2
    assert set(web.controlnet_model_list()) == {"edges", "wide"}
    assert {"none", "invert"} <= set(web.controlnet_module_list())
    assert "controlnet" in web.get_scripts()["txt2img"]
    # The client's own alwayson_scripts is one dictionary for all its calls, and it writes the units into that.
    unit = webuiapi.ControlNetUnit(image=photo(), model="edges", module="invert", weight=0.7, control_mode=2)
    drawn = web.txt2img(
        prompt="a cat", seed=3, cfg_scale=5, width=32, height=32, controlnet_units=[unit], alwayson_scripts={}
    )
    native = server.draw(
        **JOB, width=32, height=32,
        controlnet=[
            {"model": "edges", "image": upload(server, photo()), "weight": 0.7, "module": "invert", "mode": "control"},
        ],
    )  # fmt: skip
    assert "Control Mode: ControlNet is more important" in drawn.info["infotexts"][0]
    assert np.array_equal(pixels(drawn.images[0]), picture(server, native))
    assert np.array_equal(pixels(drawn.images[1]), 255 - pixels(photo())), "the map, last"
    fields = infotext.parse(drawn.info["infotexts"][0]).fields
    assert fields["ControlNet 0"].startswith("Module: invert, Model: edges [")
    title = fields["ControlNet 0"].split("Model: ")[1].split(",")[0]
    again = webuiapi.ControlNetUnit(image=photo(), model=title, weight=0.7)
    once_more = web.img2img(
        [photo(2)], prompt="a cat", seed=3, width=32, height=32, controlnet_units=[again], alwayson_scripts={}
    )
    assert len(once_more.images) == 1
    off = webuiapi.ControlNetUnit(image=photo(), model="no such", enabled=False)
    assert len(web.txt2img(prompt="a", width=32, height=32, controlnet_units=[off], alwayson_scripts={}).images) == 1
    (negative,) = web.controlnet_detect([photo()], module="invert").images
    assert np.array_equal(pixels(negative), 255 - pixels(photo()))


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ({"model": "no such"}, "there is no 'no such'"),
        ({"model": "edges [00000000]"}, "its hash does not begin with 00000000"),
        ({"module": "depth_midas"}, "this server has no 'depth_midas'"),
        ({"control_mode": "Balancd"}, "there is no 'Balancd'"),
        ({"mask": photo()}, "mask: this server cannot do it"),
        ({"hr_option": "High res only"}, "hr_option: this server cannot do it"),
        ({"resize_mode": "Squeeze"}, "there is no 'Squeeze'"),
    ],
)
def test_what_a_unit_asks_in_vain_is_refused(web: webuiapi.WebUIApi, unit: dict[str, Any], said: str) -> None:
    asked = webuiapi.ControlNetUnit(**{"image": photo(), "model": "edges", **unit})
    with pytest.raises(RuntimeError, match="422") as caught:
        web.txt2img(prompt="a", width=32, height=32, controlnet_units=[asked], alwayson_scripts={})
    assert said in caught.value.args[1]


def test_detect_refuses_what_it_has_not(server: Server) -> None:
    with server.client() as client:
        answer = client.post(
            "/controlnet/detect", json={"controlnet_module": "openpose", "controlnet_input_images": ["AA=="]}
        )
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request_error")
        assert "no 'openpose'; it has none" in answer.json()["detail"]
        assert "no picture was sent" in client.post("/controlnet/detect", json={}).json()["detail"]
        assert client.get("/controlnet/control_types").json()["control_types"]["All"]["model_list"][0] == "None"
        assert client.get("/controlnet/settings").json() == {"control_net_unit_count": 4}
        assert "canny" in client.get("/controlnet/module_list?alias_names=true").json()["module_detail"]
