"""Which addresses a webhook may reach: none inside our own network, unless the operator says so.

Whoever may write a configuration, or answer for a name in it, could otherwise have the bridge talk to what only it can
reach: metadata services, databases, its own admin page. So names are looked up here, every address is checked, and the
connection goes to just those addresses: no second look-up that might answer differently (rebinding).
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_NAT64 = IPv6Network("64:ff9b::/96")  # the IPv4 address is in its last four bytes


class ForbiddenAddress(OSError):
    """The receiver is at an address that must not be reached."""


def check_address(text: str) -> None:
    """Raises ForbiddenAddress unless `text` is an address of the public internet."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    inner: IPv4Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(address.packed[-4:])
        if address.teredo is not None:
            inner = address.teredo[1]
    for one in (address, inner):
        if one is not None and (not one.is_global or one.is_multicast) and not (one is address and inner is not None):
            raise ForbiddenAddress(f"{text} is not a public address")


def is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class CheckedResolver(AbstractResolver):
    """Answers with addresses that may be reached, or not at all: one forbidden answer among others is reason enough."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for one in found:
            check_address(one["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()
