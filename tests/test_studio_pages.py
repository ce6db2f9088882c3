"""What can be clicked on the studio's pages, in a real browser before a server that only pretends to draw."""

from __future__ import annotations

import base64
import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from browser import Browser, needs_browser
from clicking import paste
from PIL import Image

if TYPE_CHECKING:
    from pretending import Pretended

pytestmark = [pytest.mark.slow, needs_browser]

PRESS = """((text, place) => {
    const found = [...place.querySelectorAll("button")].find((each) => each.textContent === text);
    if (!found) throw new Error(`no button ${text}`);
    found.click();
})"""
DROP = """((place, files) => {
    const given = new DataTransfer();
    for (const [name, type, data] of files) {
        given.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name, { type }));
    }
    const event = new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true });
    document.querySelector(place).dispatchEvent(event);
})"""


def go(browser: Browser, server: Pretended, page: str, ready: str) -> None:
    browser.send("Page.navigate", url="about:blank")
    browser.open(f"{server.url}/#{page}")
    browser.wait(ready)


def press(browser: Browser, text: str, within: str = "main") -> None:
    browser.value(f"{PRESS}({json.dumps(text)}, document.querySelector({json.dumps(within)}))")


def fill(browser: Browser, **values: str) -> None:
    for name, value in values.items():
        browser.value(
            f"""(() => {{
                const control = document.querySelector("form").elements[{json.dumps(name)}];
                control.value = {json.dumps(value)};
                for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, {{ bubbles: true }}));
            }})()"""
        )


def submit(browser: Browser) -> None:
    browser.value("document.querySelector('form').requestSubmit()")


def newest(server: Pretended) -> dict[str, Any]:
    return dict(server.ask("GET", "/api/v1/jobs").json()[0])


def picture(size: tuple[int, int] = (24, 16), seed: bytes | None = None) -> str:
    buffer = io.BytesIO()
    Image.frombytes("RGB", size, seed or os.urandom(3 * size[0] * size[1])).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


GENERATE = "!!document.querySelector('form [name=prompt]') && !!document.querySelector('.styles select')"


def test_an_xyz_plot_is_a_labelled_grid_that_can_be_saved(server: Pretended, browser: Browser) -> None:
    go(browser, server, "generate", GENERATE)
    fill(
        browser,
        prompt='a dog, "old" ink',
        x_axis="prompt",
        x_values='dog, cat, "a, b"',
        y_axis="steps",
        y_values="2-6 (+2)",
    )
    fill(browser, z_axis="guidance_scale", z_values="1-5 [2]")
    submit(browser)
    browser.wait("document.querySelectorAll('table.sheet img').length === 18")
    job = newest(server)
    assert [(each["name"], each["values"]) for each in job["asked"]["axes"]] == [
        ("prompt", ["dog", "cat", "a, b"]), ("steps", [2, 4, 6]), ("guidance_scale", [1, 5]),
    ]  # fmt: skip
    heads = browser.value(
        "[...document.querySelectorAll('.card table.sheet')].slice(0, 2).map((each) => each.innerText)"
    )
    assert "CFG scale 1" in heads[0]
    assert "a, b" in heads[0]
    assert "CFG scale 5" in heads[1]
    sheet = browser.value("document.querySelector('a[href$=\"/sheet\"]').getAttribute('href')")
    assert server.ask("GET", sheet).headers["content-type"] == "image/png"
    fill(browser, y_values="2-")
    submit(browser)
    browser.wait("document.querySelector('#toasts').innerText.includes('2- is no number')")
    fill(browser, x_axis="sampler", y_axis="", z_axis="")
    press(browser, "All", ".axis")
    assert "DPM++ 2M" in browser.value("document.querySelector('[name=x_values]').value")
    fill(browser, x_axis="")


def test_a_picture_is_sent_on_saved_enlarged_and_forgotten(server: Pretended, browser: Browser) -> None:
    go(browser, server, "generate", GENERATE)
    fill(browser, prompt="a red dog", n="2", x_axis="", y_axis="", z_axis="")
    submit(browser)
    browser.wait(
        "document.querySelectorAll('.pictures figure > a').length >= 2 && !!document.querySelector('a[href$=zip]')"
    )
    job = newest(server)
    for kind in ("zip", "sheet"):
        address = browser.value(f"document.querySelector('a[href$=\"/{kind}\"]').getAttribute('href')")
        assert (address, server.ask("GET", address).status_code) == (f"/api/v1/jobs/{job['id']}/{kind}", 200)
    press(browser, "Make it larger")
    browser.wait("!!document.querySelector('dialog[open]')")
    press(browser, "Make", "dialog")
    browser.wait("document.querySelector('dialog img')?.naturalWidth === 16")
    assert browser.value("document.querySelector('dialog a[download]').href").startswith("blob:")
    press(browser, "Close", "dialog")
    press(browser, "Draw a part of it")
    browser.wait("document.querySelector('.drop details').open && !document.querySelector('img.start').hidden")
    submit(browser)
    browser.wait("document.querySelectorAll('.past > .stack > .card').length >= 1")
    assert newest(server)["kind"] == "img2img"  # nothing is painted, so all of it
    press(browser, "Start from noise")
    count = browser.value("document.querySelectorAll('.past > .stack > .card').length")
    press(browser, "Remove", ".past .card")
    browser.wait(f"document.querySelectorAll('.past > .stack > .card').length === {count - 1}")


def test_settings_come_back_from_a_picture_and_from_pasted_text_and_styles_are_applied(
    server: Pretended, browser: Browser
) -> None:
    go(browser, server, "generate", GENERATE)
    text = (
        "a castle\nNegative prompt: fog\nSteps: 7, Sampler: Euler a, CFG scale: 3.5, Seed: 99, Size: 96x64, Model: mini"
    )
    paste(browser, text)
    browser.wait("document.querySelector('[name=seed]').value === '99'")
    fields = ("prompt", "negative_prompt", "steps", "sampler", "guidance_scale", "width", "model")
    values = [browser.value(f"document.querySelector('form').elements.{each}.value") for each in fields]
    assert values == ["a castle", "fog", "7", "Euler a", "3.5", "96", "mini"]

    from PIL.PngImagePlugin import PngInfo

    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_text("parameters", text.replace("99", "41").replace("Euler a", "Eulr"))
    Image.new("RGB", (16, 16)).save(buffer, "PNG", pnginfo=chunks)
    dropped = [["x.png", "image/png", base64.b64encode(buffer.getvalue()).decode()]]
    browser.value(f"{DROP}('.card > .drop', {json.dumps(dropped)})")
    browser.wait("document.querySelector('[name=seed]').value === '41' && !document.querySelector('img.start').hidden")
    assert "left as it was: Eulr" in browser.value("document.querySelector('#toasts').innerText")

    browser.value("window.prompt = () => 'ink'")
    fill(browser, prompt="{prompt}, old ink", negative_prompt="")
    press(browser, "Save as style")
    browser.wait("document.querySelector('.styles select').value === 'ink'")
    fill(browser, prompt="a ship")
    press(browser, "Apply")
    assert browser.value("document.querySelector('[name=prompt]').value") == "a ship, old ink"
    press(browser, "Start from noise")


def test_a_folder_with_a_table_of_captions_is_put_in_and_its_findings_are_repaired(
    server: Pretended, browser: Browser
) -> None:
    coarse = Image.frombytes("RGB", (6, 4), bytes(89 * each * each % 251 for each in range(72)))
    twice = coarse.resize((24, 16), Image.Resampling.NEAREST).tobytes()
    larger = io.BytesIO()
    Image.frombytes("RGB", (24, 16), twice).resize((48, 32)).save(larger, "PNG")
    table = 'file_name,text\nsub/a.png,"a dog, ""red"""\nb.png,a cat\nc.png,a cat too\n'
    files = [
        ["a.png", "image/png", picture()], ["b.png", "image/png", picture(seed=twice)],
        ["c.png", "image/png", base64.b64encode(larger.getvalue()).decode()], ["d.png", "image/png", picture()],
        ["metadata.csv", "text/csv", base64.b64encode(table.encode()).decode()], ["notes.pdf", "", ""],
    ]  # fmt: skip
    go(browser, server, "data", "!!document.querySelector('form input[name=name]')")
    browser.value(f"{DROP}('form .drop', {json.dumps(files)})")
    browser.wait("!document.querySelector('form button.main').disabled")
    assert "4 pictures, 3 with a caption. 1 other file is left out." in browser.value(
        "document.querySelector('form').innerText"
    )
    fill(browser, name="mine")
    submit(browser)
    browser.wait("location.hash === '#data/mine' && document.querySelectorAll('.finding').length > 1")
    captions = {each["caption"] for each in server.ask("GET", "/api/v1/datasets/mine").json()}
    assert captions == {'a dog, "red"', "a cat", "a cat too", ""}
    shown = browser.value("document.querySelector('.findings').innerText")
    assert "Training refuses these data as they are." in shown
    assert "1 of 4 pictures have no caption" in shown
    assert browser.value("document.querySelectorAll('.pair').length") == 1
    press(browser, "Take out", ".pair figure + figure")
    browser.wait("document.querySelectorAll('.pictures figure').length === 3 && !document.querySelector('.pair')")
    press(browser, "Put back", "#toasts")
    browser.wait("document.querySelectorAll('.pair').length === 1")
    assert {each["caption"] for each in server.ask("GET", "/api/v1/datasets/mine").json()} == captions


def test_captions_are_changed_together_and_a_picture_is_turned(server: Pretended, browser: Browser) -> None:
    server.ask(
        "POST",
        "/api/v1/datasets/words",
        files={"file": ("x.png", base64.b64decode(picture()))},
        data={"caption": "a dog"},
    )
    go(browser, server, "data/words", "document.querySelectorAll('.pictures figure').length === 1")
    browser.value("window.confirm = () => true; document.querySelector('[name=before]').value = 'sks '")
    browser.value(
        "document.querySelector('[name=from]').value = 'dog'; document.querySelector('[name=to]').value = 'cat'"
    )
    press(browser, "Change all captions")
    browser.wait("document.querySelector('figure textarea')?.value === 'sks a cat'")
    press(browser, "Turn, cut")
    browser.wait("document.querySelector('dialog canvas')?.width > 0")
    press(browser, "Turn right", "dialog")
    browser.wait("document.querySelector('dialog canvas').width < document.querySelector('dialog canvas').height")
    press(browser, "Square in the middle", "dialog")
    press(browser, "Keep this part", "dialog")
    browser.wait("document.querySelector('.pictures img')?.naturalHeight === 16")
    (item,) = server.ask("GET", "/api/v1/datasets/words").json()
    assert item["caption"] == "sks a cat"
    with Image.open(io.BytesIO(server.ask("GET", f"/api/v1/datasets/words/{item['picture']}").content)) as turned:
        assert turned.size == (16, 16)


def test_what_takes_room_is_shown_and_unused_pictures_go(server: Pretended, browser: Browser) -> None:
    server.ask("POST", "/api/v1/images", files={"file": ("x.png", base64.b64decode(picture()))})
    go(browser, server, "runs", "document.body.innerText.includes('of these unused')")
    press(browser, "Remove them")
    browser.wait("!document.body.innerText.includes('of these unused')")
    assert server.ask("GET", "/api/v1/storage").json()["uploads"]["unused"] == 0


def test_every_page_fits_a_phone_has_labels_and_breaks_nothing(server: Pretended, browser: Browser) -> None:
    server.ask("POST", "/api/v1/jobs", json={"kind": "txt2img", "prompt": "a" * 300})
    browser.send("Emulation.setDeviceMetricsOverride", width=420, height=900, deviceScaleFactor=1, mobile=True)
    unlabelled = """[...document.querySelectorAll("main :is(input, select, textarea, button, img)")].filter((each) =>
        !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim() && !each.alt)
        .map((each) => each.outerHTML)"""
    for page in ("generate", "compare", "train/mascot", "data/mascot", "vote", "runs"):
        go(browser, server, page, "!!document.querySelector('main .card h2')")
        assert browser.value("document.documentElement.scrollWidth") <= 420, page
        assert browser.value(unlabelled) == [], page
    assert [each for each in browser.problems if "ERR_INVALID_URL" not in each] == []
