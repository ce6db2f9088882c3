"""Fetching pictures: polite to each host, patient with failures, and trusting nothing that a server says.

    async with Fetcher(config.fetch, seed=0) as fetcher:
        answer = await fetcher.fetch(7, "https://example.com/cat.jpg", use)

Redirects are followed by hand, because each one may lead to a private address. Content is known by its first bytes,
whatever its header says, and reading stops where they are those of no picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from brushwork import __version__
from brushwork.curate.build import consent
from brushwork.curate.build.addresses import PinnedResolver, PrivateAddressError, check_literal
from brushwork.errors import UserError
from brushwork.seeds import derive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import ModuleType, TracebackType

    import aiohttp
    from yarl import URL

    from brushwork.curate.build.settings import FetchConfig

T = TypeVar("T")

REDIRECTS = {301, 302, 303, 307, 308}
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
LONGEST_WAIT = 60.0
"""Seconds: no server makes us wait longer."""
CHUNK = 1 << 16
SNIFFED = 32
MAGIC = (
    (0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (0, b"GIF87a"), (0, b"GIF89a"), (8, b"WEBP"), (0, b"BM"),
    (0, b"II*\0"), (0, b"MM\0*"), (4, b"ftypavif"), (4, b"ftypavis"), (0, b"\0\0\0\x0cjP  "), (0, b"\xff\x4f\xff\x51"),
    (0, b"P1"), (0, b"P2"), (0, b"P3"), (0, b"P4"), (0, b"P5"), (0, b"P6"),
)  # fmt: skip
"""(where, bytes) by which the formats of :data:`brushwork.images.FORMATS` are known."""
FORGET = 10_000
"""So many idle hosts are remembered before they are looked through."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """How it went: what was made of the picture, or the reason why there is none."""

    value: T | None = None
    reason: str = ""
    detail: str = ""
    final_url: str = ""
    content_type: str = ""
    last_modified: str = ""
    bytes: int = 0


class Failure(Exception):  # noqa: N818  (one outcome of a request)
    """A request ended without a picture; ``wait`` is how many seconds the server asks for."""

    def __init__(self, reason: str, detail: str = "", *, transient: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.transient, self.wait = reason, detail, transient, wait


@dataclass(frozen=True)
class _Redirect:
    target: str


@dataclass(frozen=True)
class _Body:
    data: bytes
    content_type: str
    last_modified: str


def client() -> ModuleType:
    """Import aiohttp.

    Raises:
        UserError: It is not installed.
    """
    try:
        import aiohttp
    except ImportError as error:
        message = "Fetching needs aiohttp. Install it: pip install 'brushwork[data]'"
        raise UserError(message) from error
    return aiohttp


class Hosts:
    """Takes turns: only so many requests to one host at a time, and some time between their starts."""

    def __init__(self, per_host: int, delay: float) -> None:
        self.per_host, self.delay = per_host, delay
        self._hosts: dict[str, _Host] = {}

    @contextlib.asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait for a turn with ``host`` and hold it."""
        self._forget_idle()
        state = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self.per_host)))
        state.users += 1
        try:
            async with state.room:
                now = time.monotonic()
                state.next_start, start = max(now, state.next_start) + self.delay, max(now, state.next_start)
                if start > now:
                    await asyncio.sleep(start - now)
                yield
        finally:
            state.users -= 1

    def _forget_idle(self) -> None:
        if len(self._hosts) >= FORGET:
            now = time.monotonic()
            self._hosts = {name: host for name, host in self._hosts.items() if host.users or host.next_start > now}


@dataclass
class _Host:
    room: asyncio.Semaphore
    next_start: float = 0.0
    users: int = 0


class Fetcher:
    """Fetches pictures within ``async with``; the limits hold over all its requests."""

    def __init__(self, settings: FetchConfig, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self._hosts = Hosts(settings.per_host, settings.delay)
        self._room = asyncio.Semaphore(settings.concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:  # noqa: PYI034  (Self is not in Python 3.10)
        """Open the session.

        Raises:
            UserError: aiohttp is not installed.
        """
        aiohttp, settings = client(), self.settings
        resolver: Any = PinnedResolver(settings.allow_private)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=settings.concurrency),
            timeout=aiohttp.ClientTimeout(total=settings.timeout, sock_connect=settings.connect_timeout),
            headers={
                "User-Agent": f"{settings.user_agent}/{__version__}"
                if settings.user_agent == "brushwork"
                else settings.user_agent,
                "Accept": "image/*",
                "Accept-Encoding": "identity",  # a small answer that unpacks to a large one is refused, not unpacked
            },
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def fetch(self, row: int, url: str, use: Callable[[bytes], Awaitable[T]]) -> Answer[T]:
        """Fetch a picture and hand its bytes to ``use``, while which it still counts as one of the requests."""
        for attempt in range(self.settings.retries + 1):
            try:
                return await self._follow(url, use)
            except Failure as failure:
                if not failure.transient or attempt == self.settings.retries:
                    return Answer(reason=failure.reason, detail=failure.detail)
                await asyncio.sleep(self._pause(row, attempt, failure.wait))
        raise AssertionError

    def _pause(self, row: int, attempt: int, asked: float) -> float:
        """Return how long to wait: longer with each attempt, with some chance in it that depends on the row."""
        chance: float = random.Random(derive(self.seed, "retry", row, attempt)).uniform(0.5, 1.5)  # noqa: S311  (no secret)
        return min(LONGEST_WAIT, max(asked, self.settings.backoff * 2.0**attempt * chance))

    async def _follow(self, url: str, use: Callable[[bytes], Awaitable[T]]) -> Answer[T]:
        """Go from redirect to redirect to a picture."""
        seen: set[str] = set()
        while True:
            if url in seen:
                raise Failure(reason="redirect-loop")
            if len(seen) > self.settings.max_redirects:
                raise Failure(reason="too-many-redirects")
            seen.add(url)
            target = self._checked(url)
            async with self._hosts.turn(str(target.host)), self._room:
                outcome = await self._request(target)
                if isinstance(outcome, _Body):
                    about = Answer[T](
                        final_url=url, content_type=outcome.content_type, last_modified=outcome.last_modified,
                        bytes=len(outcome.data),
                    )  # fmt: skip
                    return replace(about, value=await use(outcome.data))
            url = _joined(target, outcome.target)

    def _checked(self, text: str) -> URL:
        """Read an address that may be asked, by the very parser that aiohttp connects by."""
        url = _parsed(text)
        if url.scheme not in ("http", "https") or not url.host or url.user is not None:
            raise Failure(reason="bad-url")
        try:
            check_literal(url.host, self.settings.allow_private)
        except PrivateAddressError:
            raise Failure(reason="private-address") from None
        return url

    async def _request(self, url: URL) -> _Redirect | _Body:
        """Ask once; what can go wrong on the way becomes a :class:`Failure`."""
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return await self._read(response)
        except asyncio.TimeoutError:
            raise Failure(reason="timeout", transient=True) from None
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, PrivateAddressError):
                raise Failure(reason="private-address") from None
            raise Failure(reason="unknown-host", transient=True) from None
        except (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError):
            raise Failure(reason="tls") from None
        except aiohttp.InvalidURL:
            raise Failure(reason="bad-url") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
            raise Failure(reason="connection", transient=True) from None
        except (aiohttp.ClientError, ValueError):  # headers that cannot be read, a host that is no name
            raise Failure(reason="bad-answer") from None

    async def _read(self, response: aiohttp.ClientResponse) -> _Redirect | _Body:
        """Judge the headers, then read the body while it may be a picture."""
        headers = {name.lower(): response.headers.getall(name) for name in response.headers}
        opt_out = consent.reserved(headers, self.settings.user_agent) if self.settings.honour_opt_outs else None
        if opt_out:
            raise Failure(reason="opt-out", detail=opt_out)
        if response.status in REDIRECTS:
            target = response.headers.get("Location", "")
            if not target:
                raise Failure(reason="bad-answer", detail=f"{response.status} without a location")
            return _Redirect(target)
        if response.status != 200:  # noqa: PLR2004  (a part of a picture, or nothing, is none)
            raise Failure(
                reason=f"http-{response.status}",
                transient=response.status in TRANSIENT,
                wait=_seconds(response.headers.get("Retry-After", "")),
            )
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Failure(reason="bad-answer", detail="packed")
        if (response.content_length or 0) > self.settings.max_bytes:
            raise Failure(reason="too-many-bytes")
        data = await self._body(response)
        return _Body(data, response.headers.get("Content-Type", ""), response.headers.get("Last-Modified", ""))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        sniffed = False
        async for chunk in response.content.iter_chunked(CHUNK):
            data += chunk
            if len(data) > self.settings.max_bytes:
                raise Failure(reason="too-many-bytes")
            if not sniffed and len(data) >= SNIFFED:
                sniffed = _sniff(data)
        if not data:
            raise Failure(reason="empty")
        if not sniffed:
            _sniff(data)
        return bytes(data)


def _parsed(text: str) -> URL:
    from yarl import URL

    try:
        return URL(text)
    except ValueError:
        raise Failure(reason="bad-url") from None


def _joined(url: URL, target: str) -> str:
    """Return where a redirect leads; fragments are never sent, so they do not make an address another one."""
    return str(url.join(_parsed(target)).with_fragment(None))


def _sniff(data: bytes | bytearray) -> bool:
    """Return True if these are the first bytes of a picture.

    Raises:
        Failure: They are not.
    """
    if any(data[place : place + len(magic)] == magic for place, magic in MAGIC):
        return True
    start = bytes(data[:SNIFFED]).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    raise Failure(
        reason="html" if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) else "not-an-image"
    )


def _seconds(text: str) -> float:
    """Read ``Retry-After``; a date counts as nothing, the usual pause will do."""
    return float(text) if text.strip().isdecimal() else 0.0
