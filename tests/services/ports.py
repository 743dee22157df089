"""Ports that nobody uses, and stay so while a server is down between kill() and restart()."""

from __future__ import annotations

import os
import random
import socket

# Below the range from which Linux and macOS take the ports of outgoing connections. Inside it a client that reconnects
# to a dead server's port can be given that very port as its own and connect to itself, and keep the server from it.
_FIRST_PORT = 20_000
_LAST_PORT = 32_000
_TRIES_MAX = 200
# Each worker of pytest-xdist hands out ports of its own: one that is free only because its server has just been killed
# is not another worker's to give.
_WORKERS_MAX = 8
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS_MAX

_random = random.SystemRandom()  # not the shared generator: pytest plug-ins and hypothesis seed that one
_handed_out: set[int] = set()


def free_port() -> int:
    """A free TCP port on 127.0.0.1 that this process was not given before."""
    for _ in range(_TRIES_MAX):
        port = _random.randrange(_FIRST_PORT + _worker, _LAST_PORT, _WORKERS_MAX)
        if port in _handed_out or not is_free(port):
            continue
        _handed_out.add(port)
        return port
    raise OSError(f"no free port between {_FIRST_PORT} and {_LAST_PORT} in {_TRIES_MAX} tries")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT doesn't count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
