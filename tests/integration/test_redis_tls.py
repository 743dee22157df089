"""rediss:// against a real server that asks its clients for a certificate, for the sink and for the state store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority, Signed
from oplogbridge.errors import Misconfigured, Unavailable
from redis_users import USERS
from services import RedisServer
from services.redis_server import RedisTls


@pytest.mark.parametrize("user", USERS)
async def test_a_client_shows_its_certificate_and_without_one_it_is_told_so(
    own_redis: Callable[..., RedisServer], tmp_path: Path, unique: str, user: str
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    server = own_redis(tls=RedisTls(*authority.signed("server"), authority.file, clients_prove_themselves=True))
    trusting = f"{server.url}?ssl_ca_certs={authority.file}"

    def with_client(signed: Signed) -> str:
        return f"{trusting}&ssl_certfile={signed.certificate}&ssl_keyfile={signed.key}"

    ours = authority.signed("ours")
    both = tmp_path / "both.pem"
    both.write_bytes(ours.key.read_bytes() + ours.certificate.read_bytes())
    for url in (with_client(ours), f"{trusting}&ssl_certfile={both}"):
        one = USERS[user](url, unique + str(url == with_client(ours)))
        await one.open()
        await one.use()
        await one.close()

    missing = Signed(tmp_path / "missing.pem", tmp_path / "missing.key")
    mixed = Signed(ours.certificate, authority.signed("other").key)
    for url in (trusting, with_client(stranger.signed("theirs")), with_client(missing), with_client(mixed)):
        one = USERS[user](url, unique)
        # The server cuts off whom it refuses, and the reason that it gives may be lost on the way.
        with pytest.raises((Misconfigured, Unavailable), match=r"ssl_certfile|certificates") as refused:
            await one.open()
        assert isinstance(refused.value, Misconfigured) or "if that goes on" in str(refused.value)
        await one.close()
