"""rediss://: the certificate and the name in it are verified, always."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from certificates import Authority
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.redis_nodes.address import RedisAddress, Server
from oplogbridge.state import StateStore
from oplogbridge.state.redis import RedisStateStore
from oplogbridge.state.urls import state_store
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge.testing.state_place import ALICE, acquired
from services import RedisServer


def store_at(url: str, name: str) -> StateStore:
    return state_store(url, name=name, clock=ManualClock())


async def test_a_trusted_certificate_is_accepted_and_any_other_is_misconfigured(
    redis_server: RedisServer, unique: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.signed("redis"))
    # The packaged redis-server is built without TLS: it ends in the proxy.
    async with FaultProxy("127.0.0.1", redis_server.port, tls=context) as proxy:
        port = proxy.port
        trusting = store_at(f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.file}", unique)
        await trusting.open()
        await acquired(trusting, "shop", ALICE)
        await trusting.close()

        for url in (
            f"rediss://127.0.0.1:{port}",  # signed by nobody we trust
            f"rediss://localhost:{port}?ssl_ca_certs={authority.file}",  # for another name
            f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'missing.pem'}",
        ):
            with pytest.raises(Misconfigured, match="check the certificate"):
                await store_at(url, unique).open()


async def test_a_server_without_tls_is_not_spoken_to(redis_server: RedisServer, unique: str) -> None:
    address = RedisAddress((Server("127.0.0.1", redis_server.port),), 0, "user", "secret", tls=True)
    with pytest.raises(Unavailable):
        await RedisStateStore(address, name=unique, deadline_seconds=0.3).open()
