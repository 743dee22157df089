"""Which addresses a webhook may reach: none inside our own network, unless the operator says so.

Whoever may write a configuration, or answer for a name in it, could otherwise have the bridge talk to what only it can
reach: metadata services, databases, its own admin page. The check stands where the socket is made, for the address that
it is going to connect to: names, numbers in odd notations and a second answer for the same name all come by there.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from aiohttp import AddrInfoType

NOT_PUBLIC = "its address is not a public one"
_UNICAST = IPv6Network("2000::/3")  # all of IPv6 that the internet routes; site-local, local NAT64 and others are not
_NAT64 = IPv6Network("64:ff9b::/96")  # the IPv4 address is in its last four bytes
# What Python 3.11's tables do not know of, or call global: protocol assignments, 6to4 relays, documentation.
_RESERVED_V4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_DOCUMENTATION = IPv6Network("3fff::/20")


class ForbiddenAddress(OSError):
    """The receiver is at an address that must not be reached."""


def leads_inside(url: str) -> bool:
    """Whether the host is a number, not a name, of an address that is not public."""
    try:
        return not is_public(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_public(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv4Address):
        return _is_public_v4(address)
    inner = _inner(address)
    if inner is not None:
        return _is_public_v4(inner)
    return address in _UNICAST and address.is_global and address not in _DOCUMENTATION


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in one for one in _RESERVED_V4)


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which an IPv6 address leads through mapping or a tunnel."""
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


def public_socket(info: AddrInfoType) -> socket.socket:
    """The socket for one address of a receiver. Raises ForbiddenAddress, always in the same words: aiohttp tries all
    addresses of a name, and makes one nameless error of different ones."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise ForbiddenAddress(NOT_PUBLIC)
    return socket.socket(family, kind, protocol)
