"""What stands before every route, page, picture and event stream: who may ask, from where, and for how much.

- With a token, everything but ``/healthz`` needs it: ``Authorization: Bearer TOKEN``, Basic with the token as password
  (any user; that is what A1111's clients send), or the cookie that ``/?token=TOKEN`` sets for a browser.
- The Host header must be a name of this server (DNS rebinding), and a request that changes something must not come from
  a page of another origin (cross-site request forgery).
- A body beyond the limit is refused before it is read.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import re
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from brushwork.serve.settings import ServeConfig

COOKIE = "brushwork"
OPEN = ("/healthz",)
_LENGTH = re.compile("[0-9]{1,18}")
SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app, self.config = app, config
        names = {"localhost", "127.0.0.1", "[::1]", config.host, *config.allowed_hosts}
        self.names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        cookie = self._login(scope)
        if cookie is not None:
            await _answer(send, 303, "", {"location": scope["path"], "set-cookie": cookie})
            return
        await self.app(scope, _Limited(receive, self.config.limits.body), _with_headers(send))

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, dict[str, str]] | None:
        """Return status, reason and headers of a refusal."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, f"Host: {host[:80]!r} is no name of this server; start it with --allow-host", {}
        origin = headers.get("origin")
        if scope["method"] not in SAFE and origin not in (None, "null") and str(origin).partition("://")[2] != host:
            return 403, "Origin: a page of another site may not ask for this", {}
        if scope["method"] not in SAFE and (origin == "null" or headers.get("sec-fetch-site") == "cross-site"):
            return 403, "Origin: a page of another site may not ask for this", {}
        length = headers.get("content-length", "0")
        if not _LENGTH.fullmatch(length) or int(length) > self.config.limits.body:
            return 413, f"body: more than the limit of this server, {self.config.limits.body} bytes", {}
        if scope["path"] not in OPEN and not self._known(scope, headers):
            asks = {"www-authenticate": 'Basic realm="brushwork"'} if scope["path"].startswith("/sdapi/") else {}
            return 401, "a token is needed: Authorization: Bearer TOKEN", asks
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return (f"[{name}]" if ":" in name else name).lower() in self.names

    @property
    def _cookie(self) -> str:
        """What the cookie holds: something that only whoever knows the token could have made, and not the token."""
        return hmac.new((self.config.token or "").encode(), COOKIE.encode(), "sha256").hexdigest()

    def _known(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Return whether the request brings the token."""
        if self.config.token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        candidates = [given] if kind.lower() == "bearer" else []
        if kind.lower() == "basic":
            with contextlib.suppress(ValueError):
                candidates.append(base64.b64decode(given).decode().partition(":")[2])
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and hmac.compare_digest(cookie.value.encode(), self._cookie.encode()):
            return True
        candidates += self._asked(scope)
        return any(self._matches(each) for each in candidates)

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.config.token or "").encode())

    def _asked(self, scope: Scope) -> list[str]:
        """Return the token of a page's address, which is for a browser's first visit only."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return []
        return parse_qs(scope["query_string"].decode("latin-1")).get("token", [])

    def _login(self, scope: Scope) -> str | None:
        given = self._asked(scope)
        if self.config.token is None or not given or not self._matches(given[0]):
            return None
        return f"{COOKIE}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"


class _Limited:
    """A body that is cut off, with an error, beyond the limit; chunked bodies do not say how long they are."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.receive, self.left = receive, limit

    async def __call__(self) -> Message:
        message = await self.receive()
        self.left -= len(message.get("body", b""))
        return message if self.left >= 0 else {"type": "http.disconnect"}


def _with_headers(send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return told


async def _answer(send: Send, status: int, reason: str, headers: dict[str, str]) -> None:
    """Answer in a form that the clients of all faces show."""
    import json

    body = json.dumps(
        {"detail": reason, "error": {"message": reason, "type": "refused", "param": None, "code": str(status)}}
    ).encode()
    every: dict[str, Any] = {"content-type": "application/json", "content-length": str(len(body)), **HEADERS, **headers}
    encoded = [(key.encode(), str(value).encode("latin-1")) for key, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
