"""The rest of the Generate panel in a real browser: the second pass, masks, plots from pictures, small comforts."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from browser import Browser, needs_browser
from clicking import drop, go, paste, press, put, submit
from PIL import Image
from pretending import pretending
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

    from pretending import Pretended

pytestmark = [pytest.mark.slow, needs_browser]

PAINT = """((canvas) => {
    const box = canvas.getBoundingClientRect();
    const at = { buttons: 1, clientX: box.left + box.width / 4, clientY: box.top + box.height / 2 };
    canvas.dispatchEvent(new PointerEvent("pointerdown", at));
})(document.querySelector("canvas.mask"))"""
KEY = """document.querySelector("[name=prompt]").dispatchEvent(
    new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true, cancelable: true }))"""


def asked(server: Pretended, count: int) -> dict[str, Any]:
    """Return what the newest of so many jobs was asked."""
    server.until(lambda: len(server.engine.store.jobs(200)) == count)
    jobs = server.ask("GET", "/api/v1/jobs?limit=200").json()
    return dict(jobs[0]["asked"])


def picture(size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_the_whole_panel_goes_out_and_comes_back(server: Pretended, browser: Browser) -> None:
    before = len(server.ask("GET", "/api/v1/jobs?limit=200").json())
    go(browser, server.url)
    second = {
        "hires_width": "128", "hires_height": "96", "hires_schedule": "Karras", "hires_strength": "0.5",
        "hires_steps": "4", "hires_prompt": "a cat", "hires_negative_prompt": "fog", "sampler": "Euler",
    }  # fmt: skip
    for name, value in {"prompt": "a dog", **second}.items():
        put(browser, f"form [name={name}]", value)
    browser.value(KEY)
    job = asked(server, before + 1)
    assert job["hires"] == {
        "scale": None, "width": 128, "height": 96, "upscaler": "Latent", "steps": 4, "strength": 0.5,
        "sampler": "Euler Karras", "prompt": "a cat", "negative_prompt": "fog",
    }  # fmt: skip
    paste(
        browser,
        "a ship\nSteps: 7, Sampler: Heun, Seed: 5, Size: 64x64, Denoising strength: 0.25, Hires resize: 96x64, "
        "Hires sampler: Euler, Hires schedule type: Beta, Hires steps: 3, Hires negative prompt: rain",
    )
    browser.wait("document.querySelector('[name=seed]').value === '5'")
    names = [*second, "hires_scale", "hires_sampler"]
    values = [browser.value(f"document.querySelector('form [name={name}]').value") for name in names]
    assert values == ["96", "64", "Beta", "0.25", "3", "", "rain", "Heun", "", "Euler"]
    browser.wait("[...document.querySelectorAll('button')].some((each) => each.textContent === 'Its seed')")
    press(browser, "Its seed")
    assert browser.value("document.querySelector('[name=seed]').value") not in ("5", "-1")


def test_a_plot_from_a_picture_of_all_but_what_is_painted(server: Pretended, browser: Browser) -> None:
    before = len(server.ask("GET", "/api/v1/jobs?limit=200").json())
    go(browser, server.url)
    drop(browser, ".card > .drop", picture((48, 24)))
    browser.wait("!document.querySelector('img.start').hidden")
    press(browser, "Draw it in its size")
    sides = [browser.value(f"document.querySelector('form [name={each}]').value") for each in ("width", "height")]
    assert sides == ["48", "24"]
    browser.value("document.querySelector('.drop details').open = true; 1")
    browser.value("""[...document.querySelectorAll(".drop details select")].at(-1).value = "rest"; 1""")
    browser.value(PAINT)
    for name, value in {"prompt": "a dog", "x_axis": "strength", "x_values": "0.5, 1", "y_axis": "schedule"}.items():
        put(browser, f"form [name={name}]", value)
    put(browser, "form [name=y_values]", "Karras, Beta")
    press(browser, "Generate from it")
    job = asked(server, before + 1)
    assert (job["kind"], [each["name"] for each in job["axes"]]) == ("grid", ["strength", "schedule"])
    data = server.ask("GET", f"/api/v1/images/{job['mask']}").content
    with Image.open(io.BytesIO(data)) as mask:
        white = np.asarray(mask.convert("L"))
    assert (white[12, 12], white[12, 40]) == (0, 255)
    browser.wait("document.querySelectorAll('table.sheet img').length === 4")
    sheet = base64.b64encode(
        server.ask("GET", browser.value("document.querySelector('a[href$=\"/sheet\"]').getAttribute('href')")).content
    ).decode()
    for name in ("x_axis", "y_axis"):
        put(browser, f"form [name={name}]", "")
    drop(browser, ".card > .drop", sheet)
    browser.wait("document.querySelector('form [name=y_axis]').value === 'schedule'")
    browser.wait(f"!document.querySelector('img.start').src.includes('{job['init']}')")
    values = [browser.value(f"document.querySelector('form [name={each}]').value") for each in ("x_axis", "x_values")]
    assert values == ["strength", "0.5, 1"]
    press(browser, "Start from noise")
    submit(browser)
    browser.wait("document.querySelector('#toasts').innerText.includes('strength: these pictures are from text alone')")
    put(browser, "form [name=x_axis]", "")
    put(browser, "form [name=y_axis]", "")


def test_adapters_and_embeddings_become_words_and_both_prompts_are_counted(tmp_path: Path, browser: Browser) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    save_file(
        {"unet.a.lora_A.weight": torch.ones(2, 2), "unet.a.lora_B.weight": torch.ones(2, 2)}, folder / "ink.safetensors"
    )
    save_file({"emb_params": torch.ones(1, 8)}, folder / "sketchy.safetensors")
    with pretending(tmp_path, models=(folder,)) as server:
        go(browser, server.url)
        put(browser, "form [name=prompt]", "a dog")
        for word, where in (
            ("<lora:ink:1>", "Into the prompt"),
            ("sketchy", "Into the prompt"),
            ("sketchy", "Into the negative"),
        ):
            put(browser, "[aria-label='Adapter or embedding']", word)
            press(browser, where)
        values = [
            browser.value(f"document.querySelector('form [name={each}]').value")
            for each in ("prompt", "negative_prompt")
        ]
        assert values == ["a dog <lora:ink:1> sketchy", "sketchy"]
        counted = "[...document.querySelectorAll('form output')].map((each) => each.textContent)"
        browser.wait(f"{counted}.every((each) => each.startsWith('1/75 tokens'))")
        put(browser, "form [name=negative_prompt]", "")
        browser.wait(f"{counted}[1] === ''")
        drop(browser, ".card > .drop", picture((20, 10)))
        browser.wait("!document.querySelector('img.start').hidden")
        press(browser, "Enlarge it")
        browser.wait("!!document.querySelector('dialog[open]')")
        press(browser, "Make", "dialog")
        browser.wait("document.querySelector('dialog img')?.naturalWidth === 40")
