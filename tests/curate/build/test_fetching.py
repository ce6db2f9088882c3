"""Fetching: opt-outs, politeness, retries and what a server may do wrong."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from hostile_web import FATES, MAX_BYTES, Web, picture

from brushwork.curate.build import consent
from brushwork.curate.build.fetching import Answer, Fetcher, Hosts
from brushwork.curate.build.settings import FetchConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


def fetch(urls: list[str], **settings: Any) -> list[Answer[bytes]]:
    async def keep(data: bytes) -> bytes:
        return data

    async def run() -> list[Answer[bytes]]:
        given: dict[str, Any] = {"delay": 0, "retries": 1, "backoff": 0.01, "timeout": 1.0, "max_bytes": MAX_BYTES}
        given |= {"allow_private": ["127.0.0.1/32"], **settings}
        async with Fetcher(FetchConfig.model_validate(given), seed=0) as fetcher:
            return await asyncio.gather(*(fetcher.fetch(place, url, keep) for place, url in enumerate(urls)))

    return asyncio.run(run())


def test_everything_that_goes_wrong_has_its_reason(web: Web) -> None:
    kinds = [kind for kind in FATES if kind not in ("cut", "small")]  # those are only seen when they are decoded
    answers = dict(zip(kinds, fetch([web.url(100, kind) for kind in kinds]), strict=True))
    for kind, answer in answers.items():
        assert answer.reason == FATES[kind].partition(": ")[2], kind
        assert answer.value == (picture(100) if FATES[kind] == "kept" else None), kind
    assert answers["moved"].final_url == web.url(100, "fine")
    assert answers["mislabelled"].content_type == "text/plain"
    assert answers["reserved"].detail == "x-robots-tag: noai"
    asked = {kind: web.asked[f"/{kind}/100.jpg"] for kind in kinds}
    assert {kind for kind, count in asked.items() if count == 2} == {"slow", "broken", "flaky", "fine"}
    assert asked["missing"] == 1


def test_opt_outs_can_be_ignored_and_redirects_forbidden(web: Web) -> None:
    reserved, moved = fetch([web.url(101, "reserved"), web.url(101, "moved")], honour_opt_outs=False, max_redirects=0)
    assert reserved.value == picture(101)
    assert moved.reason == "too-many-redirects"


@pytest.mark.parametrize(
    ("headers", "reserved"),
    [
        ({}, None),
        ({"x-robots-tag": ["noai"]}, "x-robots-tag: noai"),
        ({"x-robots-tag": ["nofollow, NoImageAI"]}, "x-robots-tag: noimageai"),
        ({"x-robots-tag": ["nofollow", "noindex"]}, "x-robots-tag: noindex"),
        ({"x-robots-tag": ["none"]}, "x-robots-tag: none"),
        ({"x-robots-tag": ["otherbot: noindex, noai"]}, None),
        ({"x-robots-tag": ["otherbot: nofollow, brushwork: noai"]}, "x-robots-tag: noai"),
        ({"x-robots-tag": ["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"]}, "x-robots-tag: noai"),
        ({"x-robots-tag": ["all, max-image-preview: large"]}, None),
        ({"tdm-reservation": ["1"]}, "tdm-reservation: 1"),
        ({"tdm-reservation": ["0"]}, None),
        ({"content-usage": ["bots=y, train-ai = n"]}, "content-usage: train-ai=n"),
        ({"content-usage": ["train-ai=y"]}, None),
    ],
)
def test_which_headers_reserve_a_picture(headers: dict[str, list[str]], reserved: str | None) -> None:
    assert consent.reserved(headers, "brushwork") == reserved


def test_a_host_gets_few_requests_at_a_time_and_some_time_between_them() -> None:
    starts: list[tuple[str, float]] = []
    at_once: dict[str, int] = {}
    most: dict[str, int] = {}

    async def visit(hosts: Hosts, host: str) -> None:
        async with hosts.turn(host):
            starts.append((host, time.monotonic()))
            at_once[host] = at_once.get(host, 0) + 1
            most[host] = max(most.get(host, 0), at_once[host])
            await asyncio.sleep(0.05)
            at_once[host] -= 1

    async def run() -> None:
        hosts = Hosts(per_host=2, delay=0.02)
        await asyncio.gather(*(visit(hosts, host) for host in ("a", "b") for _ in range(6)))

    asyncio.run(run())
    assert most == {"a": 2, "b": 2}
    for host in ("a", "b"):
        times = [when for name, when in starts if name == host]
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.015
    assert [name for name, _ in starts[:4]].count("b") == 2  # hosts do not wait for one another


def test_pauses_double_depend_on_the_row_and_the_seed_and_have_an_end() -> None:
    def pauses(seed: int, row: int) -> list[float]:
        fetcher = Fetcher(FetchConfig(backoff=1.0), seed)
        return [fetcher._pause(row, attempt, 0.0) for attempt in range(10)]

    first = pauses(0, 7)
    assert first == pauses(0, 7) != pauses(1, 7)
    assert first != pauses(0, 8)
    assert all(0.5 * 2**attempt <= pause <= 1.5 * 2**attempt for attempt, pause in enumerate(first[:5]))
    assert first[-1] == 60.0
    assert Fetcher(FetchConfig(backoff=0.0), 0)._pause(0, 0, 9.0) == 9.0  # Retry-After
