"""Which addresses may be fetched from, and a resolver that leaves no gap between the check and the connection.

    check_literal("127.0.0.1", allowed=False)      # raises PrivateAddressError
    aiohttp.TCPConnector(resolver=PinnedResolver(allowed=False), use_dns_cache=False)

A public name may point to a private address, once or only the second time (DNS rebinding). So a host is resolved once,
all its addresses are checked, and the connector gets exactly these; a name with one private address among public ones
is refused. An IPv6 address that carries an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by both.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Allowed = bool | tuple[str, ...]
    Found = list[tuple[str, socket.AddressFamily]]

NAT64 = ipaddress.ip_network("64:ff9b::/96")
LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
COMPATIBLE = ipaddress.ip_network("::/96")
REMEMBERED = 100_000
"""Hosts whose addresses are kept."""


class PrivateAddressError(OSError):
    """An address is private, loopback, link-local or otherwise not for everyone."""


def is_public(address: Address) -> bool:
    """Return whether an address is meant to be reached by everyone on the internet.

    >>> is_public(ipaddress.ip_address("93.184.216.34")), is_public(ipaddress.ip_address("::ffff:10.0.0.1"))
    (True, False)
    """
    if isinstance(address, ipaddress.IPv6Address) and (address in LOCAL_NAT64 or address.is_site_local):
        return False
    if any(not is_public(each) for each in _carried(address)):
        return False
    # A mapped address is no global one to Python, but what it carries may be.
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    return (mapped or address.is_global) and not address.is_multicast


def _carried(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 addresses within an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in NAT64 or address in COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def check(text: str, allowed: Allowed) -> None:
    """Refuse an address that is not public.

    Args:
        text: The address; of an IPv6 one the zone is ignored.
        allowed: True, or networks that are allowed although they are private.

    Raises:
        PrivateAddressError: It is refused.
    """
    if allowed is True:
        return
    address = ipaddress.ip_address(text.partition("%")[0])
    if is_public(address):
        return
    networks = map(ipaddress.ip_network, allowed or ())
    if not any(address.version == network.version and address in network for network in networks):
        message = f"{address} is not a public address"
        raise PrivateAddressError(message)


def check_literal(host: str, allowed: Allowed) -> None:
    """Refuse a host that is written as an address and not public; names are for :class:`PinnedResolver`.

    Raises:
        PrivateAddressError: It is refused.
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    check(host, allowed)


class PinnedResolver:
    """Resolves each host once; duck-typed as aiohttp's ``AbstractResolver``, which only needs these two methods."""

    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self._found: dict[str, asyncio.Future[Found]] = {}

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[dict[str, object]]:
        """Return the checked addresses of a host, the same every time.

        Raises:
            OSError: It has none.
            PrivateAddressError: One of them is not public.
        """
        pinned = self._found.get(host)
        if pinned is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            pinned = self._found[host] = asyncio.ensure_future(self._look_up(host))
        try:
            found = await asyncio.shield(pinned)
        except PrivateAddressError:
            raise  # and stays refused
        except OSError:
            self._found.pop(host, None)  # a name server may have been busy: a retry asks again
            raise
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": kind,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address, kind in found
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def _look_up(self, host: str) -> Found:
        answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        found: Found = [(str(address[0]), kind) for kind, _, _, _, address in answers]
        for address, _ in found:
            check(address, self.allowed)
        return found

    async def close(self) -> None:
        """Forget what was resolved."""
        self._found.clear()
