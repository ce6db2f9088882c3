"""ControlNet on the Generate panel, in a real browser: before a server that pretends to draw, and on mini."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from browser import Browser, needs_browser
from clicking import drop, go, paste, press, put, submit
from PIL import Image, ImageDraw
from pretending import pretending
from served import serving
from tiny_controls import make_control

from brushwork import families

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pretending import Pretended
    from warm import Server as Warm

pytestmark = [pytest.mark.slow, needs_browser]

SEEN = """(() => {
    const both = [...document.querySelectorAll(".unit .seen img")];
    return both.length > 1 && both.every((each) => each.naturalWidth);
})()"""


def house() -> str:
    image = Image.new("RGB", (96, 64), "lightblue")
    ImageDraw.Draw(image).rectangle((20, 20, 60, 50), fill="brown")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def said(browser: Browser, selector: str) -> str:
    return str(browser.value(f"document.querySelector({json.dumps(selector)}).textContent"))


def newest(server: Pretended) -> dict[str, Any]:
    return dict(server.ask("GET", "/api/v1/jobs").json()[0])


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Pretended]:
    """A server without networks."""
    with pretending(tmp_path) as running:
        yield running


def test_a_network_is_found_given_a_picture_shown_its_map_and_asked_for(bare: Pretended, browser: Browser) -> None:
    server = bare
    go(browser, server.url)
    assert "None is here yet: put one" in said(browser, "details.more:has(.units) .note")
    folder = server.config.runs.parent / "controlnet" / "edges"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    press(browser, "Look again")
    browser.wait("!document.querySelector('.units').parentElement.textContent.includes('None is here')")
    press(browser, "Add a ControlNet")
    put(browser, "form [name=prompt]", "a house")
    submit(browser)
    browser.wait("document.querySelector('.unit > p').textContent === 'choose the picture that it sees'")
    drop(browser, ".unit .drop", house())
    browser.wait(SEEN)
    put(browser, "[data-control=module]", "canny")
    put(browser, "[data-control=resolution]", "64")
    browser.wait("document.querySelectorAll('.unit .seen img')[1].src.startsWith('blob:')")
    put(browser, "[data-control=guidance_start]", "1")
    submit(browser)
    browser.wait("document.querySelector('.unit > p').textContent === 'guidance_start 1 is not before guidance_end 1'")
    put(browser, "[data-control=guidance_start]", "0.25")
    put(browser, "[data-control=weight]", "0.8")
    submit(browser)
    browser.wait("document.querySelectorAll('.pictures figure > a').length >= 1")
    (asked,) = newest(server)["asked"]["controlnet"]
    picture = asked.pop("image")
    assert asked == {
        "model": "edges", "module": "canny", "resolution": 64, "low": 100, "high": 200, "weight": 0.8,
        "guidance_start": 0.25, "guidance_end": 1, "mode": "balanced", "resize_mode": "crop", "union": None,
    }  # fmt: skip
    go(browser, server.url)
    browser.wait(SEEN)
    assert picture in browser.value("document.querySelector('.unit .seen img').src"), "a reload keeps it"
    press(browser, "Let ControlNet see it")  # of a picture in the history: a copy of it
    browser.wait("document.querySelector('.unit .seen img').naturalWidth === 8")
    assert picture not in browser.value("document.querySelector('.unit .seen img').src")
    press(browser, "Remove", ".unit")
    assert browser.value("document.querySelectorAll('.unit').length") == 0


def test_an_infotext_gives_the_units_back_but_for_their_pictures(server: Pretended, browser: Browser) -> None:
    folder = server.config.runs.parent / "controlnet" / "depths"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    server.ask("POST", "/api/v1/catalogue/refresh")
    go(browser, server.url)
    unit = "Module: {}, Model: {}, Weight: 0.5, Resize Mode: Resize and Fill, Pixel Perfect: True, Control Mode: {}"
    text = (
        f'a house\nSteps: 7, Sampler: Euler, Seed: 5, Size: 64x64, ControlNet 0: "'
        f'{unit.format("canny", "depths [0123abcd]", "My prompt is more important")}", ControlNet 1: "'
        f'{unit.format("depth_midas", "depths", "Mine")}"'
    )
    paste(browser, text)
    browser.wait("document.querySelectorAll('.unit').length === 2")
    values = browser.value(
        "[...document.querySelectorAll('.unit')[0].querySelectorAll('[data-control]')].map((each) => each.value)"
    )
    assert values == ["depths", "canny", "100", "200", "", "0.5", "0", "1", "prompt", "fill", ""]
    told = browser.value("[...document.querySelectorAll('.unit > p')].map((each) => each.textContent)")
    assert "the picture that it saw is not in the text" in told[0]
    assert told[1] == "Not here, so left as usual: module depth_midas, control mode Mine"
    submit(browser)
    browser.wait("document.querySelector('.unit > p').textContent === 'choose the picture that it sees'")
    drop(browser, ".card > .drop", house())
    browser.wait("!document.querySelector('img.start').hidden")
    browser.wait("document.querySelector('.unit .note').textContent.includes('started from')")
    submit(browser)
    browser.wait("document.querySelectorAll('.pictures figure > a').length >= 1")
    job = newest(server)
    assert job["kind"] == "img2img"
    assert [each["image"] for each in job["asked"]["controlnet"]] == [None, None], "they see what is started from"


@pytest.mark.thorough
def test_mini_is_steered_from_the_page_and_its_settings_come_back(tmp_path: Path, warm: Warm) -> None:
    make_control(families.load("mini"), tmp_path / "controlnet" / "edges")
    with serving(tmp_path, warm=warm) as server, Browser(width=1280) as browser:
        browser.patience = 100.0
        url = server.url.rstrip("/")
        go(browser, url)
        press(browser, "Add a ControlNet")
        drop(browser, ".unit .drop", house())
        browser.wait(SEEN)
        for name, value in {"prompt": "a red house", "steps": "3", "n": "1", "seed": "5"}.items():
            put(browser, f"form [name={name}]", value)
        put(browser, "[data-control=weight]", "0.4")
        submit(browser)
        browser.wait("document.querySelectorAll('.pictures figure > a img').length === 1")
        with server.client() as client:
            (job,) = client.get("/api/v1/jobs").json()
        unit = r"ControlNet 0: \"Module: none, Model: edges \[\w{8}\], Weight: 0\.4"
        assert re.search(unit, job["pictures"][0]["infotext"])
        browser.screenshot(tmp_path / "controlnet.png", width=1280, height=1400)
        press(browser, "Remove", ".unit")
        press(browser, "Its settings")
        browser.wait(SEEN)
        assert browser.value("document.querySelector('[data-control=weight]').value") == "0.4"
        assert job["asked"]["controlnet"][0]["image"] in browser.value("document.querySelector('.unit .seen img').src")
        assert browser.problems == []
