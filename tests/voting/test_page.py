"""People can vote with the keyboard, go on after a reload, and change their minds: in a real browser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from ballots import make_ballot, serving
from browser import Browser, needs_browser

from brushwork.voting import answers, counting, page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [needs_browser, pytest.mark.slow]

READY = "!document.querySelector('#vote').hidden && !document.querySelector('.loading')"
DONE = "!document.querySelector('#done').hidden"
COUNT = "document.querySelector('#bar').value"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def begin(browser: Browser, rater: str) -> None:
    browser.value(f"document.querySelector('#rater').value = {rater!r}; document.querySelector('#begin').click()")
    browser.wait(READY)


def press(browser: Browser, key: str, then: int) -> None:
    browser.wait(READY)
    time.sleep(0.13)  # the page takes what comes sooner for a double click
    browser.press(key)
    browser.wait(f"{COUNT} === {then} || {DONE}")


def test_the_served_page_is_answered_with_keys_and_resumes_after_a_reload(tmp_path: Path, browser: Browser) -> None:
    folder = make_ballot(tmp_path, prompts=2, questions=("prompt", "overall"))
    with serving(folder) as server:
        browser.open(server.url)
        begin(browser, "Ann")
        names = browser.value("[...document.querySelectorAll('#pictures img')].map((each) => each.getAttribute('src'))")
        pair, left, _ = folder.ballot.sheets[0][0]
        shown = folder.ballot.pairs[pair].pictures
        assert names == [f"pictures/{shown[left]}.png", f"pictures/{shown[1 - left]}.png"]
        press(browser, "ArrowLeft", 1)
        press(browser, " ", 2)
        press(browser, "Backspace", 1)
        assert browser.value("document.querySelector('.tie').getAttribute('aria-pressed')") == "true"
        press(browser, "ArrowRight", 2)
        browser.open(server.url + "?reload")
        browser.wait(f"{READY} && {COUNT} === 2")
        for place in range(3, 7):
            press(browser, "ArrowRight", place)
        browser.wait(DONE)
    found = answers.load(folder)
    assert [(each.place, each.question, each.choice) for each in found if each.place == 0] == [
        (0, "overall", "right"),
        (0, "prompt", "left"),
    ]
    assert len(found) == 6
    assert browser.problems == []


def test_a_bundle_works_from_a_file_and_hands_out_answers_that_count(tmp_path: Path, browser: Browser) -> None:
    folder = make_ballot(tmp_path, prompts=3, questions=("overall",))
    path = page.write_bundle(folder, tmp_path / "vote.html")
    browser.open(path.as_uri())
    begin(browser, "ben")
    press(browser, "ArrowLeft", 1)
    browser.open(path.as_uri() + "?again")
    browser.wait(f"{READY} && {COUNT} === 1")
    for place in range(2, 5):
        press(browser, "ArrowRight", place)
    browser.wait(DONE)
    told = browser.value("document.querySelector('#copy').value")
    file = tmp_path / "votes-ben.json"
    file.write_text(told, "utf-8")
    assert json.loads(told)["ballot"] == folder.ballot.hash, "SHA-256 on the page is SHA-256"
    found = answers.load(folder, [file])
    assert [each.choice for each in found] == ["left", "right", "right", "right"]
    assert counting.count(folder, found)["votes"] == 3
    downloads = tmp_path / "downloads"
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=False)
    browser.value("document.querySelector('#download').click()")
    browser.wait("new Promise((done) => setTimeout(() => done(true), 300))")
    assert [json.loads(each.read_text("utf-8")) for each in downloads.glob("votes-ben-*.json")] == [json.loads(told)]
    assert browser.problems == []


def test_a_bundle_whose_pictures_were_exchanged_refuses_to_go_on(tmp_path: Path, browser: Browser) -> None:
    folder = make_ballot(tmp_path, prompts=2, questions=("overall",))
    path = page.write_bundle(folder, tmp_path / "vote.html")
    one, other = folder.ballot.pairs[0].pictures
    uris = {name: page._uri(folder.pictures / f"{name}.png") for name in (one, other)}
    text = path.read_text("utf-8").replace(uris[one], "ONE").replace(uris[other], uris[one]).replace("ONE", uris[other])
    path.write_text(text, "utf-8")
    browser.open(path.as_uri())
    browser.value("document.querySelector('#rater').value = 'eve'; document.querySelector('#begin').click()")
    for _ in folder.ballot.pairs:
        browser.wait(f"{READY} || !document.querySelector('#problem').hidden")
        if browser.value("!document.querySelector('#problem').hidden"):
            break
        press(browser, "ArrowLeft", 1)
    browser.wait("document.querySelector('#problem').textContent.includes('not the one it was made with')")


def test_a_bundle_in_a_folder_shows_its_pictures_too(tmp_path: Path, browser: Browser) -> None:
    folder = make_ballot(tmp_path, prompts=2, questions=("overall",))
    browser.open(page.write_bundle(folder, tmp_path / "bundle").as_uri())
    begin(browser, "carl")
    assert browser.value("[...document.querySelectorAll('#pictures img')].every((each) => each.naturalWidth === 24)")
    press(browser, "ArrowLeft", 1)
    assert browser.problems == []


def test_a_double_click_counts_once_and_the_space_presses_no_button(tmp_path: Path, browser: Browser) -> None:
    folder = make_ballot(tmp_path, prompts=3, questions=("overall",))
    browser.open(page.write_bundle(folder, tmp_path / "vote.html").as_uri())
    begin(browser, "dora")
    time.sleep(0.13)
    browser.value("document.querySelector('[data-choice=left]').focus()")
    browser.value("document.querySelector('[data-choice=left]').click()")
    browser.wait(f"{READY} && {COUNT} === 1")
    assert browser.value(f"document.querySelector('[data-choice=left]').click(); {COUNT}") == 1
    press(browser, " ", 2)
    stored = f"JSON.parse(localStorage.getItem('brushwork-vote-{folder.ballot.hash[:16]}-answers-dora'))"
    assert browser.value(f"{stored}.map((each) => each.choice)") == ["left", "tie"]


def test_both_pictures_and_all_buttons_fit_on_a_phone(tmp_path: Path, browser: Browser) -> None:
    folder = make_ballot(tmp_path, prompts=2, side=256)
    browser.open(page.write_bundle(folder, tmp_path / "vote.html").as_uri())
    begin(browser, "phone")
    browser.screenshot(tmp_path / "phone.png", width=420, height=860)
    assert browser.value("document.documentElement.scrollWidth") <= 420
    assert browser.value("document.querySelector('.tie').getBoundingClientRect().bottom") <= 860
    assert browser.value("Math.min(...[...document.querySelectorAll('#pictures img')].map((i) => i.width))") >= 250
