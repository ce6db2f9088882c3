"""The Generate panel's "More" in a real browser: token count, second pass, and a mask that is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import Browser, needs_browser
from served import serving

if TYPE_CHECKING:
    from pathlib import Path

    from warm import Server as Warm

pytestmark = [pytest.mark.slow, pytest.mark.thorough, needs_browser]

FILL = """
for (const [name, value] of Object.entries(%s)) {
  const control = document.querySelector(`form [name=${name}]`);
  control.value = value;
  control.dispatchEvent(new Event("input", { bubbles: true }));
}
"""
SUBMIT = "document.querySelector('form').requestSubmit(); 1"
PAINT = """
const canvas = document.querySelector("canvas.mask");
const box = canvas.getBoundingClientRect();
for (const x of [0.2, 0.3, 0.4]) {
  canvas.dispatchEvent(new PointerEvent("pointermove",
    { buttons: 1, clientX: box.left + x * box.width, clientY: box.top + 0.3 * box.height }));
}
1
"""


def test_tokens_a_second_pass_and_a_painted_mask(tmp_path: Path, warm: Warm) -> None:
    with serving(tmp_path, warm=warm) as server, Browser(width=1300) as browser:
        browser.patience = 100.0
        browser.open(f"{server.url}#generate")
        browser.wait("!!document.querySelector('form [name=prompt]')")
        asked = (
            '{prompt: "a red dog", steps: 2, n: 1, seed: 5, hires_scale: 2, hires_steps: 2, variation_strength: 0.2}'
        )
        browser.value(FILL % asked + "1")
        browser.wait("/^3\\/75 tokens/.test(document.querySelector('form output').textContent)")
        browser.value("document.querySelector('form details').open = true; 1")
        browser.value(SUBMIT)
        browser.wait("document.querySelectorAll('.pictures figure > a img').length === 1")
        browser.screenshot(tmp_path / "second.png", width=1300)
        with server.client() as client:
            (job,) = client.get("/api/v1/jobs").json()
        assert "Hires upscale: 2" in job["pictures"][0]["infotext"]
        assert job["asked"]["variation_strength"] == 0.2
        browser.value(
            "[...document.querySelectorAll('button')].find((each) => each.textContent === 'Start from it').click(); 1"
        )
        browser.wait("!document.querySelector('.drop details').hidden")
        browser.value("document.querySelector('.drop details').open = true; 1")
        browser.value(PAINT)
        browser.value(FILL % "{steps: 4}" + SUBMIT)
        browser.wait("document.querySelectorAll('section.card .pictures figure > a img').length === 2")
        browser.screenshot(tmp_path / "mask.png", width=1300)
        with server.client() as client:
            job = client.get("/api/v1/jobs").json()[0]
        assert job["kind"] == "inpaint"
        assert "Mask blur: 1, Masked content: original" in server.wait(job["id"])["pictures"][0]["infotext"]
