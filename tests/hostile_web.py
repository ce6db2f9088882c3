"""A web server on this machine that misbehaves on purpose: a third of its pictures are none, or come with a catch.

    with Web() as web:
        web.url(7)              # the address of picture 7; what is wrong with it follows from the number
        web.kind(7), web.asked  # ... and how often each path was asked for

The server is a thread of this process, so it also outlives a build that is killed.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from aiohttp import web
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

FATES = {
    "fine": "kept",
    "flaky": "kept",  # 500, then the picture
    "moved": "kept",  # one redirect
    "mislabelled": "kept",  # a picture that is called text
    "slow": "failed: timeout",
    "missing": "failed: http-404",
    "broken": "failed: http-500",
    "loop": "failed: redirect-loop",
    "inside": "refused: private-address",  # a redirect to a private address
    "text": "unfit: not-an-image",  # text that is called a picture
    "page": "unfit: html",
    "large": "unfit: too-many-bytes",
    "endless": "unfit: too-many-bytes",  # the same without a length
    "reserved": "refused: opt-out",
    "cut": "unfit: damaged",
    "small": "unfit: too-small",
}
"""What is wrong with a picture, and what is to become of its row."""
CATCHES = tuple(FATES)[1:]
MAX_BYTES = 200_000
SIZE = 96


@lru_cache(maxsize=1024)
def picture(number: int, size: int = SIZE) -> bytes:
    """Return a JPEG that looks like no other."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((size + 16, size), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class Web:
    """The server, within ``with``."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Web:  # noqa: PYI034  (Self is not in Python 3.10)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> int:
        application = web.Application()
        application.router.add_get("/{kind}/{number}.jpg", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    def kind(self, number: int) -> str:
        """Return what is wrong with a picture: something with every third."""
        return CATCHES[number // 3 % len(CATCHES)] if number % 3 == 0 else "fine"

    def url(self, number: int, kind: str | None = None) -> str:
        return f"http://127.0.0.1:{self.port}/{kind or self.kind(number)}/{number}.jpg"

    def table(self, path: Path, count: int) -> Path:
        """Write metadata of ``count`` pictures as LAION spells them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = {
            "URL": [self.url(number) for number in range(count)],
            "TEXT": [f"picture {number}" for number in range(count)],
            "WIDTH": [SIZE + 16] * count,
            "HEIGHT": [SIZE] * count,
        }
        pq.write_table(pa.table(rows), path)
        return path

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind, number = request.match_info["kind"], int(request.match_info["number"])
        self.asked[request.path] += 1
        headers = {"Content-Type": "image/jpeg"}
        if kind in ("slow", "late"):
            await asyncio.sleep(3600 if kind == "slow" else 0.3)
        if kind == "missing":
            raise web.HTTPNotFound
        if kind == "broken" or (kind == "flaky" and self.asked[request.path] == 1):
            raise web.HTTPInternalServerError
        redirects = {"moved": f"/fine/{number}.jpg", "loop": request.path, "inside": "http://169.254.169.254/latest/"}
        if kind in redirects:
            return web.Response(status=302, headers={"Location": redirects[kind]})
        if kind == "endless":
            return await self._endless(request)
        bodies = {
            "text": b"only a few words, called a picture",
            "page": b"<!DOCTYPE html><html><body>not found</body></html>",
            "large": picture(number) + bytes(MAX_BYTES),
            "cut": picture(number)[:-200],
            "small": picture(number, 40),
        }
        if kind == "reserved":
            headers["X-Robots-Tag"] = "otherbot: nofollow, brushwork: noai"
        if kind == "mislabelled":
            headers["Content-Type"] = "text/plain"
        return web.Response(body=bodies.get(kind, picture(number)), headers=headers)

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        await response.write(picture(0))
        try:
            while True:
                await response.write(bytes(50_000))
        except ConnectionError:
            return response
