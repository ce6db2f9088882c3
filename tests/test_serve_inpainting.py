"""A model for inpainting behind every face: jobs, A1111's option and infotext, and what is refused of other models."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import webuiapi
from browser import Browser, needs_browser
from PIL import Image
from pretending import pretending
from served import serving
from tiny import make_tiny_sd

from brushwork import families, generate
from brushwork.infotext import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from served import Server
    from warm import Server as Warm

DRAWN: dict[str, Any] = {"prompt": "a dog", "steps": 3, "seed": 5, "guidance_scale": 4, "width": 32, "height": 32}
WEB: dict[str, Any] = {"prompt": "a dog", "steps": 3, "seed": 5, "cfg_scale": 4, "width": 32, "height": 32}
MINI, NINE = ({"override_settings": {"sd_model_checkpoint": name}} for name in ("mini", "nine"))
OPTION = "inpainting_mask_weight"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served-nine")
    make_tiny_sd(folder / "models" / "nine", in_channels=9)
    return folder


@pytest.fixture(scope="module")
def server(root: Path, warm: Warm) -> Iterator[Server]:
    with serving(root, "--models", str(root / "models"), warm=warm) as running:
        yield running


def start() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))


def hole() -> Image.Image:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (6, 6, 26, 26))
    return mask


def test_a_job_is_the_picture_of_generate(server: Server, root: Path) -> None:
    with server.client() as client:
        ids = {}
        for name, image in (("init", start()), ("mask", hole())):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            ids[name] = client.post("/api/v1/images", files={"file": buffer.getvalue()}).json()["id"]
        models = client.get("/api/v1/models").json()
        assert {each["name"]: each["inpainting"] for each in models} == {"mini": False, "nine": True}
        done = server.draw(kind="inpaint", model="nine", mask_strength=0.25, **DRAWN, **ids)
        assert done["state"] == "done", done["error"]
        data = client.get(f"/api/v1/images/{done['pictures'][0]['id']}").content
        refused = server.draw(kind="inpaint", model="mini", mask_strength=0.25, **DRAWN, **ids)
    request = generate.Request(**DRAWN, grammar=True, init=start(), mask=hole(), mask_strength=0.25)
    expected = next(generate.draw(families.load(str(root / "models" / "nine")), [request])).image
    with Image.open(io.BytesIO(data)) as image:
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1
    assert read_bytes(data).fields["Conditional mask weight"] == "0.25"
    assert refused["state"] == "failed"
    assert "mask_strength: 0.25 is for inpainting bases" in refused["error"]["message"]


def test_a1111s_option_is_the_clients_and_holds_for_models_that_see_masks(server: Server) -> None:
    web = webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rstrip("/").rsplit(":", 1)[1]))
    asked: dict[str, Any] = {"images": [start()], "mask_image": hole(), "inpainting_fill": 1, "mask_blur": 0, **WEB}
    whole = web.img2img(**asked, **NINE)
    web.set_options({OPTION: 0.5})
    assert web.get_options()[OPTION] == 0.5
    half = web.img2img(**asked, **NINE)
    text = web.txt2img(**WEB, **NINE)
    plain = web.img2img(**asked, **MINI)
    web.set_options({OPTION: 1})
    given = web.img2img(**asked, override_settings={**NINE["override_settings"], OPTION: 0.5})
    said = [each.info["infotexts"][0] for each in (whole, half, given, text, plain)]
    assert ["Conditional mask weight: 1," in each for each in said] == [True, False, False, False, False]
    assert ["Conditional mask weight: 0.5," in each for each in said] == [False, True, True, False, False]
    assert half.info["is_using_inpainting_conditioning"]
    assert not plain.info["is_using_inpainting_conditioning"]
    pictures = [np.asarray(each.image.convert("RGB"), int) for each in (whole, half, given)]
    assert (pictures[1] == pictures[2]).all()
    assert (pictures[0] != pictures[1]).any()
    with pytest.raises(RuntimeError, match="mini is no model for inpainting"):
        web.img2img(**asked, override_settings={**MINI["override_settings"], OPTION: 0.5})


@pytest.mark.parametrize("value", [1.5, -0.1, "much", [0.5]])
def test_a_weight_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    with pretending(tmp_path) as server:
        for path, body in (("options", {OPTION: value}), ("txt2img", {"override_settings": {OPTION: value}})):
            answer = server.ask("POST", f"/sdapi/v1/{path}", json=body)
            assert answer.status_code == 422
            assert f"{OPTION}: " in answer.text
        asked = {"kind": "txt2img", "prompt": "a", "mask_strength": value}
        assert server.ask("POST", "/api/v1/jobs", json=asked).status_code == 422


def test_an_infotexts_weight_becomes_the_requests(tmp_path: Path, root: Path) -> None:
    text = "a\nSteps: 2, Sampler: Euler, Seed: 1, Model: nine, Conditional mask weight: {}"
    with pretending(tmp_path, models=(root / "models",)) as server:
        body = {"infotext": text.format("0.25"), "enable_hr": True, "hr_upscaler": "Lanczos", "denoising_strength": 0.5}
        assert server.ask("POST", "/sdapi/v1/txt2img", json=body).status_code == 200
        (row,) = server.within(server.engine.store.jobs)
        assert row.pictures[0].planned["mask_strength"] == 0.25
        assert json.loads(json.dumps(row.pictures[0].planned))["model"] == "nine"
        refused = server.ask("POST", "/sdapi/v1/txt2img", json={"infotext": text.format("nan")})
        assert (refused.status_code, "is not a number from 0 to 1" in refused.text) == (422, True)


HIDDEN = "document.querySelector('[name=mask_strength]').closest('label').hidden"
FILL = """
for (const [name, value] of Object.entries(%s)) {
  const control = document.querySelector(`form [name=${name}]`);
  control.value = value;
  control.dispatchEvent(new Event("input", { bubbles: true }));
}
"""


@pytest.mark.slow
@pytest.mark.thorough
@needs_browser
def test_the_page_has_the_strength_for_models_that_see_masks(root: Path, tmp_path: Path, warm: Warm) -> None:
    models = str(root / "models")
    with serving(tmp_path, "--models", models, warm=warm) as server, Browser(width=1300) as browser:
        browser.patience = 100.0
        browser.open(f"{server.url}#generate")
        browser.wait("!!document.querySelector('form [name=mask_strength]')")
        assert browser.value(HIDDEN)
        size = "width: 32, height: 32, hires_scale: 2"
        asked = f'{{model: "nine", prompt: "a dog", steps: 2, n: 1, mask_strength: 0.25, {size}}}'
        browser.value(FILL % asked + "1")
        assert not browser.value(HIDDEN)
        browser.value("document.querySelector('form details').open = true; 1")
        browser.screenshot(tmp_path / "strength.png", width=1300)
        browser.value("document.querySelector('form').requestSubmit(); 1")
        browser.wait("document.querySelectorAll('.pictures figure > a img').length === 1")
        with server.client() as client:
            job = client.get("/api/v1/jobs").json()[0]
        assert "Conditional mask weight: 0.25" in job["pictures"][0]["infotext"]
        browser.value(FILL % '{model: "mini"}' + "1")
        assert browser.value(HIDDEN)
