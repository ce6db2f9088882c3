"""Maps of pictures for ControlNets: as the network would see them, within the limits; and what holds a picture."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pretending import pretending

from brushwork.controlnet import maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pretending import Pretended

STRIP = "would be looked at in 512x5120000, more than the limit of this server, 64000000 pixels; cut it"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretended]:
    folder = tmp_path_factory.mktemp("maps")
    network = folder / "controlnet" / "edges"
    network.mkdir(parents=True)
    (network / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    with pretending(folder) as running:
        yield running


def photo(size: tuple[int, int] = (40, 24)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def upload(server: Pretended, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return str(server.ask("POST", "/api/v1/images", files={"file": buffer.getvalue()}).json()["id"])


@pytest.mark.parametrize(
    ("asked", "module", "size"),
    [
        ({"module": "invert"}, maps.Module("invert"), None),
        ({"module": "canny", "resolution": 48, "low": 50, "high": 90}, maps.Module("canny", 48, 50, 90), None),
        ({"module": "canny", "resolution": None, "width": 64, "height": 64}, maps.Module("canny", None), (64, 64)),
        ({"width": 16, "height": 32, "resize_mode": "fill"}, maps.Module(), (16, 32)),
    ],
)
def test_a_map_is_what_the_network_sees(
    server: Pretended, asked: dict[str, Any], module: maps.Module, size: tuple[int, int] | None
) -> None:
    answer = server.ask("POST", "/api/v1/controlnets/map", json={"image": upload(server, photo()), **asked})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert np.array_equal(image, maps.make(photo(), module, asked.get("resize_mode", "crop"), size))


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"image": "0123"}, 404, "there is no such picture"),
        ({"module": "depth"}, 422, "Input should be 'none', 'canny' or 'invert'"),
        ({"width": 64}, 422, "width and height: give both, or neither"),
        ({"width": 4096, "height": 64}, 422, "width: 4096 is more than the limit of this server, 2048"),
        ({"resolution": 4096}, 422, "less than or equal to 2048"),
        ({"module": "canny"}, 422, STRIP),
        ({"module": "canny", "resolution": None}, 200, ""),
    ],
)
def test_what_cannot_be_made_is_refused(server: Pretended, asked: dict[str, Any], status: int, said: str) -> None:
    picture = upload(server, photo((1, 10_000)))
    answer = server.ask("POST", "/api/v1/controlnets/map", json={"image": picture, **asked})
    assert answer.status_code == status
    assert said in answer.text or status == 200


def test_neither_a_job_nor_a1111s_detect_looks_for_edges_in_a_huge_strip(server: Pretended) -> None:
    strip = photo((1, 10_000))
    control = {"model": "edges", "image": upload(server, strip), "module": "canny"}
    job = {"kind": "txt2img", "prompt": "a", "controlnet": [control]}
    assert STRIP in server.ask("POST", "/api/v1/jobs", json=job).text
    buffer = io.BytesIO()
    strip.save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    asked = {"controlnet_module": "canny", "controlnet_input_images": [text]}
    assert STRIP in server.ask("POST", "/controlnet/detect", json=asked).text
    unit = {"module": "canny", "model": "edges", "image": text}
    drawn = {"prompt": "a", "alwayson_scripts": {"controlnet": {"args": [unit]}}}
    assert STRIP in server.ask("POST", "/sdapi/v1/txt2img", json=drawn).text


def test_a_picture_that_a_job_shows_to_a_network_counts_as_used(server: Pretended) -> None:
    picture, other = upload(server, photo()), upload(server, photo())
    control = {"model": "edges", "image": picture}
    answer = server.ask("POST", "/api/v1/jobs", json={"kind": "txt2img", "prompt": "a", "controlnet": [control]})
    assert answer.status_code == 202, answer.text
    assert server.within(lambda: picture in server.engine.store.uploads(used=True))
    assert server.ask("DELETE", "/api/v1/storage/uploads").status_code == 200
    assert server.ask("GET", f"/api/v1/images/{picture}").status_code == 200
    assert server.ask("GET", f"/api/v1/images/{other}").status_code == 404
