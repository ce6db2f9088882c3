"""The studio in a real browser: from pictures on the disk to a tuned model, a comparison and a vote, by clicking."""

from __future__ import annotations

import base64
import json
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
    "steps": "4",
    "validation.prompts": "a teddy bear",
    "validation.images_per_prompt": "2",
    "validation.num_inference_steps": "2",
}

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("studio"), warm=warm) as running:
        yield running


def test_a_newcomer_gets_from_pictures_to_a_tuned_model_a_comparison_and_a_vote(server: Server, tmp_path: Path) -> None:
    with Browser(width=1300) as browser:
        browser.patience = 200.0

        browser.open(f"{server.url}#data")
        browser.wait("!!document.querySelector('form input[name=name]')")
        browser.value(put_in(sorted(MASCOT.glob("*.png"))[:5]))
        browser.wait("location.hash === '#data/bear' && document.querySelectorAll('figure textarea').length === 5")
        browser.wait("[...document.querySelectorAll('figure textarea')].every((each) => each.value.length > 3)")

        browser.open(f"{server.url}#train/bear")
        browser.wait("!!document.querySelector('form [name=steps]')")
        browser.value(fill({"data": "bear", **SHORT}) + "document.querySelector('form').requestSubmit(); 1")
        browser.wait("document.querySelector('main').innerText.includes('Done.')")
        browser.screenshot(tmp_path / "train.png", width=1300)
        run = browser.value("document.querySelector('main a[href*=\"/report\"]').href.split('/').at(-2)")

        browser.open(f"{server.url}#generate")
        browser.wait(f"[...document.querySelectorAll('option')].some((each) => each.value === '{run}')")
        browser.value(
            fill({"model": run, "prompt": "a teddy bear", "steps": "2", "n": "2"})
            + "document.querySelector('form').requestSubmit(); 1"
        )
        browser.wait("document.querySelectorAll('.pictures figure a img').length >= 4")

        browser.open(f"{server.url}#compare/{run}")
        browser.wait("document.querySelectorAll('input[type=checkbox]:checked').length === 2")
        browser.value(
            fill({"prompts": "a teddy bear", "steps": "2", "n": "1"})
            + "document.querySelector('form').requestSubmit(); 1"
        )
        browser.wait("document.querySelectorAll('table figure img').length === 2")
        browser.value("[...document.querySelectorAll('table button')].at(-1).click(); 1")
        browser.wait("document.querySelectorAll('.slider img').length === 2")

        browser.open(f"{server.url}#vote")
        browser.wait("!!document.querySelector('main button')")
        browser.value("document.querySelector('main button').click(); 1")
        browser.wait("!!document.querySelector('a[href$=\"page/\"]')")
        page = browser.value("document.querySelector('a[href$=\"page/\"]').href")
        assert browser.problems == []

        browser.open(page)
        browser.wait("document.readyState === 'complete' && document.images.length > 0")
    with server.client() as client:
        uncounted = client.get(f"/api/v1/votes/{run}/results")
        assert uncounted.status_code == 422  # nobody voted
        assert "answer" in uncounted.json()["error"]["message"]
        weights = client.get(f"/api/v1/runs/{run}/weights")
        assert weights.content.startswith(b"PK")
        report = client.get(f"/api/v1/runs/{run}/report")
        assert "sandbox" in report.headers["content-security-policy"]


def test_the_studio_fits_a_phone(server: Server) -> None:
    with Browser(width=420) as browser:
        for page in ("generate", "compare", "train", "data", "vote", "runs"):
            browser.open(f"{server.url}#{page}")
            browser.wait("!!document.querySelector('main .card')")
            assert browser.value("document.documentElement.scrollWidth") <= 420, page
        assert browser.problems == []


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
