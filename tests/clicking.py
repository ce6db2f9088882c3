"""What a person does on the studio's pages, for tests: open one, press, write, drop, send.

go(browser, server.url, "generate", READY)
put(browser, "form [name=prompt]", "a dog")
press(browser, "Generate")
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from browser import Browser

GENERATE = "!!document.querySelector('form [name=prompt]') && !!document.querySelector('.units')"
PRESS = """((text, within) => {
    const every = [...document.querySelectorAll(`${within} button`)];
    const found = every.find((each) => each.textContent === text && !each.hidden);
    if (!found) throw new Error(`no button ${text}`);
    found.click();
})"""
DROP = """((place, data) => {
    const given = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    given.items.add(new File([bytes], "x.png", { type: "image/png" }));
    const event = new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true });
    document.querySelector(place).dispatchEvent(event);
})"""


def go(browser: Browser, url: str, page: str = "generate", ready: str = GENERATE) -> None:
    """Open a page anew and wait until it is there."""
    browser.send("Page.navigate", url="about:blank")
    browser.open(f"{url}/#{page}")
    browser.wait(ready)


def press(browser: Browser, text: str, within: str = "main") -> None:
    """Press the first button of a text."""
    browser.value(f"{PRESS}({json.dumps(text)}, {json.dumps(within)})")


def put(browser: Browser, selector: str, value: str) -> None:
    """Write into a field, or choose from a list."""
    browser.value(
        f"""(() => {{
            const control = document.querySelector({json.dumps(selector)});
            control.value = {json.dumps(value)};
            for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, {{ bubbles: true }}));
        }})()"""
    )


def paste(browser: Browser, text: str) -> None:
    """Paste a text into the prompt."""
    browser.value(
        f"""(() => {{
            const clipboardData = new DataTransfer();
            clipboardData.setData("text", {json.dumps(text)});
            const event = new ClipboardEvent("paste", {{ clipboardData, cancelable: true }});
            document.querySelector("[name=prompt]").dispatchEvent(event);
        }})()"""
    )


def drop(browser: Browser, selector: str, png: str) -> None:
    """Drop a picture, in base64."""
    browser.value(f"{DROP}({json.dumps(selector)}, {json.dumps(png)})")


def submit(browser: Browser) -> None:
    """Send the page's form."""
    browser.value("document.querySelector('form').requestSubmit()")
