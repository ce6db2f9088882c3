"""The studio in a real browser: from pictures on the disk to a tuned model, a comparison and a vote, by clicking."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Browser, needs_browser
from served import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from served import Server
    from warm import Server as Warm

MASCOT = Path(__file__).parent.parent / "src" / "brushwork" / "assets" / "datasets" / "mascot"
SHORT = {
    "steps": "24",
    "validation.prompts": "a teddy bear",
    "validation.images_per_prompt": "2",
    "validation.num_inference_steps": "2",
}

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("studio"), warm=warm) as running:
        yield running


def test_a_newcomer_gets_from_pictures_to_a_tuned_model_a_comparison_and_a_vote(server: Server) -> None:
    with Browser(width=1300) as browser:
        browser.patience = 400.0
        browser.open(server.url)
        browser.wait("!!document.querySelector('.welcome a[href=\"#data\"]')")
        browser.value("document.querySelector('.welcome a[href=\"#data\"]').click()")
        browser.wait("!!document.querySelector('form input[name=name]')")
        browser.value(put_in(sorted(MASCOT.glob("*.png"))[:5]))
        browser.wait("location.hash === '#data/bear' && document.querySelectorAll('figure textarea').length === 5")
        browser.wait("[...document.querySelectorAll('figure textarea')].every((each) => each.value.length > 3)")
        press(browser, "Train on it", "a")
        browser.wait("!!document.querySelector('form [name=steps]')")
        assert browser.value("document.querySelector('form').elements.data.value") == "bear"
        run = trained_with_a_stop(browser)
        generated_and_compared(browser, server, run)
        voted(browser, server, run)
        exported(browser, server, run)
        assert browser.problems == []
    with server.client() as client:
        weights = client.get(f"/api/v1/runs/{run}/weights")
        assert weights.content.startswith(b"PK")
        report = client.get(f"/api/v1/runs/{run}/report")
        assert "sandbox" in report.headers["content-security-policy"]


def trained_with_a_stop(browser: Browser) -> str:
    """Start a run, stop it in the middle, go on with it, and return its name."""
    browser.value(fill(SHORT))
    browser.value("document.querySelector('form').requestSubmit()")
    browser.wait("/Step [3-9] of/.test(document.querySelector('main').innerText)")
    press(browser, "Stop (it can go on later)")
    browser.wait("document.querySelector('main').innerText.includes('it can go on.')")
    press(browser, "Go on")
    browser.wait("document.querySelector('main').innerText.includes('Done.')")
    assert browser.value("document.querySelectorAll('.growth img').length") == 1
    return str(browser.value("document.querySelector('main a[href*=\"/report\"]').href.split('/').at(-2)"))


def generated_and_compared(browser: Browser, server: Server, run: str) -> None:
    press(browser, "Generate", "a.button")
    browser.wait("!!document.querySelector('.styles select')")
    assert browser.value("document.querySelector('form').elements.model.value") == run
    browser.value(fill({"prompt": "a teddy bear", "steps": "2", "n": "2"}))
    browser.value("document.querySelector('form').requestSubmit()")
    browser.wait("document.querySelectorAll('.pictures figure > a img').length === 2")
    browser.open(f"{server.url}#compare/{run}")
    browser.wait("document.querySelectorAll('input[type=checkbox]:checked').length === 2")
    browser.value(fill({"prompts": "a teddy bear", "steps": "2", "n": "1"}))
    browser.value("document.querySelector('form').requestSubmit()")
    browser.wait("document.querySelectorAll('table figure img').length === 2")
    press(browser, "Slide")
    browser.wait("document.querySelectorAll('.slider img').length === 2")


def voted(browser: Browser, server: Server, run: str) -> None:
    """Make a vote, answer every pair as a rater does, and look at the count."""
    browser.open(f"{server.url}#vote/{run}")
    browser.wait("!!document.querySelector('main button')")
    press(browser, run)
    browser.wait("!!document.querySelector('a[href$=\"page/\"]')")
    assert "nobody voted yet" in browser.value("document.querySelector('main').innerText")
    browser.open(browser.value("document.querySelector('a[href$=\"page/\"]').href"))
    browser.wait("document.readyState === 'complete' && !!document.querySelector('#begin')")
    browser.value("document.querySelector('#rater').value = 'Ann'; document.querySelector('#begin').click()")
    done = "!document.querySelector('#done').hidden"
    for _ in range(40):
        browser.wait(f"{done} || !document.querySelector('#vote').hidden && !document.querySelector('.loading')")
        if browser.value(done):
            break
        count = browser.value("document.querySelector('#bar').value")
        time.sleep(0.13)  # the page takes what comes sooner for a double click
        browser.press("ArrowLeft")
        browser.wait(f"document.querySelector('#bar').value > {count} || {done}")
    browser.wait(done)
    browser.open(f"{server.url}#vote")
    browser.wait("!!document.querySelector('a[href$=results]')")
    with server.client() as client:
        assert client.get(f"/api/v1/votes/{run}/results").status_code == 200


def exported(browser: Browser, server: Server, run: str) -> None:
    """Make a file for another program by clicking, and take it."""
    browser.open(f"{server.url}#runs/{run}")
    browser.wait("!!document.querySelector('.chart') && document.body.innerText.includes('What changed')")
    press(browser, "Export")
    press(browser, "Make the file", "dialog button")
    browser.wait("!!document.querySelector('dialog a[download]') || !!document.querySelector('dialog .bad')")
    link = browser.value("document.querySelector('dialog a[download]')?.getAttribute('href')")
    with server.client() as client:
        data = client.get(link).content
        assert client.get(link.replace("-kohya", "-comfyui")).status_code == 422
    length = int.from_bytes(data[:8], "little")
    assert any("lora_down" in key for key in json.loads(data[8 : 8 + length]))


def test_the_studio_fits_a_phone(server: Server) -> None:
    with Browser(width=420) as browser:
        for page in ("generate", "compare", "train", "data", "vote", "runs"):
            browser.open(f"{server.url}#{page}")
            browser.wait("!!document.querySelector('main .card')")
            assert browser.value("document.documentElement.scrollWidth") <= 420, page
        assert browser.problems == []


def press(browser: Browser, text: str, what: str = "main button") -> None:
    """Click what has a text."""
    browser.value(
        f"[...document.querySelectorAll({json.dumps(what)})].find((e) => e.textContent === {json.dumps(text)}).click()"
    )


def put_in(pictures: list[Path]) -> str:
    """Return what chooses files in the form of a new data set, as a person would in the file dialogue."""
    files = []
    for picture in pictures:
        files.append([picture.name, "image/png", base64.b64encode(picture.read_bytes()).decode()])
        text = picture.with_suffix(".txt").read_bytes()
        files.append([picture.with_suffix(".txt").name, "text/plain", base64.b64encode(text).decode()])
    return f"""(() => {{
        const chosen = new DataTransfer();
        for (const [name, type, data] of {json.dumps(files)}) {{
            const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
            chosen.items.add(new File([bytes], name, {{ type }}));
        }}
        const form = document.querySelector('form');
        form.elements.name.value = 'bear';
        form.elements.files.files = chosen.files;
        form.requestSubmit();
        return 1;
    }})()"""


def fill(values: dict[str, str]) -> str:
    """Return what writes into the fields of the page's form."""
    lines = [
        f"document.querySelector('form').elements[{json.dumps(k)}].value = {json.dumps(v)};" for k, v in values.items()
    ]
    return "".join(lines)
