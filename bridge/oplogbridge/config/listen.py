"""Addresses to listen at, and which hosts are this machine. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the admin HTTP server listens. Port 0 is any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> Listen | None:
    """`127.0.0.1:8090`, `[::1]:8090`, `:8090` (every address); None for `off`. Raises ValueError."""
    if value is False or value == "off":  # tools that write YAML 1.1 turn `off` into false
        return None
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[3]) > 65535:
        raise ValueError("must be HOST:PORT (127.0.0.1:8090, [::1]:8090, 0.0.0.0:8090) or off")
    return Listen(found[1] or found[2] or "0.0.0.0", int(found[3]))  # noqa: S104  # `:8090` asks for just that


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
