"""A real browser for tests of pages: Chromium without a window, driven through its DevTools.

    with Browser() as browser:
        browser.open("file:///...")
        browser.press("ArrowLeft"); browser.wait("!document.querySelector('#done').hidden")
        browser.value("document.title"), browser.screenshot(path, width=420)

``needs_browser`` skips a test where there is none.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import TracebackType

    import aiohttp
    from typing_extensions import Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)
PATIENCE = 120.0
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, " ": 32, "Backspace": 8}

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")


class Browser:
    """One tab."""

    def __init__(self, width: int = 1100, height: int = 900) -> None:
        self.patience = PATIENCE
        self._size = (width, height)
        self._stack = ExitStack()
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        profile = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        assert PROGRAM
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
        self._process = subprocess.Popen(
            [PROGRAM, *options, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._loop.run_until_complete(self._connect(self._port(Path(profile) / "DevToolsActivePort")))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._stack.close()

    def _port(self, told: Path) -> int:
        """Wait until the browser says where its DevTools are."""
        until = time.monotonic() + self.patience
        while not (told.is_file() and "\n" in told.read_text("utf-8")):
            assert time.monotonic() < until, "the browser does not start"
            time.sleep(0.05)
        return int(told.read_text("utf-8").splitlines()[0])

    async def _connect(self, port: int) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as reply:
            tab = next(each for each in await reply.json() if each["type"] == "page")
        self._socket: aiohttp.ClientWebSocketResponse = await self._session.ws_connect(
            tab["webSocketDebuggerUrl"], max_msg_size=0
        )
        for domain in ("Page", "Runtime", "Log"):
            await self._send(f"{domain}.enable")
        await self._resize(*self._size)

    async def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json(timeout=PATIENCE)
            if told.get("id") == self._number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            if told.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(told["params"]["exceptionDetails"]))
            if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.problems.append(told["params"]["entry"]["text"])

    async def _resize(self, width: int, height: int) -> None:
        await self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one DevTools command."""
        return self._loop.run_until_complete(self._send(method, **parameters))

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self.send("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href !== 'about:blank' && {url!r} !== ''")

    def value(self, expression: str) -> Any:
        """Return the value of an expression on the page."""
        told = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + self.patience
        while not self.value(expression):
            assert time.monotonic() < until, f"still not true: {expression}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key])

    def screenshot(self, path: Path, width: int = 1100, height: int = 900, *, dark: bool = False) -> Path:
        """Take a picture of what is seen at a size."""
        self._loop.run_until_complete(self._resize(width, height))
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        time.sleep(0.2)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path
