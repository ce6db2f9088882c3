"""Addresses that are not for everyone, in every spelling, and names whose addresses change after a look at them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from hostile_web import Web, picture

from brushwork.curate.build import addresses
from brushwork.curate.build.addresses import PrivateAddressError
from brushwork.curate.build.fetching import Answer, Fetcher
from brushwork.curate.build.settings import FetchConfig

PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1",
    "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1",
    "ff02::1", "fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "2001:0:7f00:1::",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_for_everyone_is_refused(text: str) -> None:
    assert not addresses.is_public(ipaddress.ip_address(text))
    with pytest.raises(PrivateAddressError, match="not a public address"):
        addresses.check(text, allowed=False)
    addresses.check(text, allowed=True)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_pass(text: str) -> None:
    addresses.check(text, allowed=False)


def test_networks_can_be_allowed_one_by_one() -> None:
    addresses.check("10.1.2.3", ("10.1.0.0/16", "fc00::/7"))
    with pytest.raises(PrivateAddressError):
        addresses.check("10.2.2.3", ("10.1.0.0/16", "fc00::/7"))


class Names:
    """A name server whose answers change."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0

    def look_up(self, *_: Any, **__: Any) -> list[Any]:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not found:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


def fetch(url: str, times: int = 1, **settings: Any) -> list[Answer[int]]:
    async def size(data: bytes) -> int:
        return len(data)

    async def run() -> list[Answer[int]]:
        given = {"delay": 0, "retries": 0, "backoff": 0, "timeout": 5, **settings}
        async with Fetcher(FetchConfig.model_validate(given), seed=0) as fetcher:
            return [await fetcher.fetch(number, url, size) for number in range(times)]

    return asyncio.run(run())


def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    with Web() as web:
        url = f"http://pictures.example:{web.port}/fine/3.jpg"
        answers = fetch(url, times=3, allow_private=("127.0.0.0/8",))
    assert [answer.value for answer in answers] == [len(picture(3))] * 3
    assert names.asked == 1


@pytest.mark.parametrize("found", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"]])
def test_a_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    names = Names(found)
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    answers = fetch("http://pictures.example/1.jpg", times=2, retries=1)
    assert [answer.reason for answer in answers] == ["private-address"] * 2
    assert names.asked == 1


def test_a_busy_name_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names([], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    with Web() as web:
        url = f"http://pictures.example:{web.port}/fine/3.jpg"
        (answer,) = fetch(url, retries=1, allow_private=True)
    assert answer.value == len(picture(3))
    names.answers = [[]]
    (answer,) = fetch("http://pictures.example/1.jpg", retries=1)
    assert answer.reason == "unknown-host"
    assert names.asked == 4


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/x.jpg", "private-address"),
        ("http://[::1]/x.jpg", "private-address"),
        ("http://[::ffff:127.0.0.1]/x.jpg", "private-address"),
        ("http://2130706433/x.jpg", "bad-url"),
        ("http://0x7f.1/x.jpg", "bad-url"),
        ("http://127.1/x.jpg", "bad-url"),
        ("ftp://a.example/x.jpg", "bad-url"),
        ("file:///etc/hostname", "bad-url"),
        ("http://user:word@a.example/x.jpg", "bad-url"),
        ("http:///x.jpg", "bad-url"),
        ("http://a.example:99999/", "bad-url"),
        ("//a.example/x.jpg", "bad-url"),
        ("not an address", "bad-url"),
    ],
)  # fmt: skip
def test_odd_addresses_are_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.1"]).look_up)
    (answer,) = fetch(url)
    assert answer.reason in (reason, "private-address")
    assert answer.value is None
