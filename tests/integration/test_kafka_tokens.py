"""SASL OAUTHBEARER: a real broker that checks signed tokens, and an identity provider that can fail in every way."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kafka_world import World
from needed import needed
from oplogbridge import Misconfigured, Sink, Unavailable
from oplogbridge.testing import make_batch
from oplogbridge.testing.sink_rig import FIRST, assert_ends_in_a_next_step, chain
from services import KafkaServer
from services.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from services.kafka_security import Certificates


class Realm(NamedTuple):
    kafka: KafkaServer
    provider: IdentityProvider

    def login(self, **changes: Any) -> dict[str, Any]:
        client = {"token_url": self.provider.token_url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return {"tls": {"ca": str(self.kafka.ca_path)}, "sasl": {"mechanism": "OAUTHBEARER"} | client | changes}

    def login_by_file(self, path: Path) -> dict[str, Any]:
        sasl = {"mechanism": "OAUTHBEARER", "token_file": str(path)}
        return {"tls": {"ca": str(self.kafka.ca_path)}, "sasl": sasl}


@pytest.fixture(scope="module")
def started() -> Iterator[Realm]:
    with (
        needed(),
        IdentityProvider() as provider,
        KafkaServer().start(secured=True, jwks_url=provider.jwks_url) as server,
    ):
        yield Realm(server, provider)


@pytest.fixture
def realm(started: Realm) -> Iterator[Realm]:
    """The provider gives good tokens again, whatever the test before did to it."""
    provider = started.provider
    provider.answer, provider.lifetime_seconds, provider.tells_lifetime = None, 300, True
    provider.issued.clear()
    provider.scopes.clear()
    yield started
    if provider.stopped:
        provider.start()


@pytest.fixture
def world(realm: Realm, unique: str) -> World:
    return World(realm.kafka.secured_bootstrap_servers, unique)


async def refused(sink: Sink) -> Misconfigured | Unavailable:
    """What opening says, which ends in the next step and shows no secret."""
    try:
        with pytest.raises((Misconfigured, Unavailable)) as raised:
            await sink.open()
    finally:
        await sink.close()
    assert_ends_in_a_next_step(raised.value)
    assert not [text for text in chain(raised.value) if CLIENT_SECRET in text or "eyJ" in text]
    return raised.value


async def test_a_token_of_the_identity_provider_is_a_login(realm: Realm, world: World) -> None:
    async with world.opened(create=True, **realm.login(scope="kafka other")) as sink:
        await sink.write(make_batch(FIRST))
        await sink.position()
    assert await World(realm.kafka.bootstrap_servers, world.name).sequences() == [FIRST]
    assert len(realm.provider.issued) == 1  # for all connections of an opening
    assert realm.provider.scopes == ["kafka other"]


async def test_without_a_lifetime_each_connection_gets_a_token_of_its_own(realm: Realm, world: World) -> None:
    realm.provider.tells_lifetime = False
    async with world.opened(create=True, **realm.login()) as sink:
        await sink.write(make_batch(FIRST))
    assert len(realm.provider.issued) > 1


async def test_a_token_file_is_read_at_each_opening(realm: Realm, world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    sink = world.sink(create=True, **realm.login_by_file(file))
    assert "token_file" in str(await refused(sink))  # it is not there

    file.write_text("no token\n")
    assert "holds no bearer token" in str(await refused(sink))

    file.write_text(realm.provider.token(lifetime_seconds=-3600))
    assert "refused the login" in str(await refused(sink))

    file.write_text(realm.provider.token() + "\n")
    await sink.open()
    await sink.write(make_batch(FIRST))
    await sink.close()


@pytest.mark.parametrize("wrong", ["expired", "for another audience", "signed by nobody"])
async def test_a_token_that_the_broker_refuses_needs_a_person(
    realm: Realm, world: World, tmp_path: Path, wrong: str
) -> None:
    token = realm.provider.token()
    if wrong == "expired":
        token = realm.provider.token(lifetime_seconds=-3600)
    elif wrong == "for another audience":
        token = realm.provider.token(audience="somebody else")
    else:
        token = token[:-8] + "AAAAAAAA"
    (tmp_path / "token").write_text(token)

    said = await refused(world.sink(**realm.login_by_file(tmp_path / "token")))

    assert isinstance(said, Misconfigured)
    assert "refused the login" in str(said)


async def test_a_client_that_the_provider_does_not_know_needs_a_person(realm: Realm, world: World) -> None:
    said = await refused(world.sink(**realm.login(client_id="stranger")))
    assert isinstance(said, Misconfigured)
    assert "401 invalid_client who are you?" in str(said)


async def test_a_provider_that_is_down_may_come_back(realm: Realm, world: World) -> None:
    realm.provider.stop()
    assert isinstance(await refused(world.sink(**realm.login())), Unavailable)

    realm.provider.start()
    async with world.opened(create=True, **realm.login()) as sink:
        await sink.write(make_batch(FIRST))


async def test_a_provider_that_hangs_is_given_up_in_time(realm: Realm, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        async with asyncio.timeout(10):
            said = await refused(world.sink(timeout="1500ms", **realm.login(token_url=url)))
    assert isinstance(said, Unavailable)
    assert "within 0.5s" in str(said)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, b"", Unavailable),
        (503, b"<html>try later</html>", Unavailable),
        (429, b"", Unavailable),
        (400, b'{"error":"invalid_scope"}', Misconfigured),
        (403, f'{{"error":"you sent {CLIENT_SECRET}"}}'.encode(), Misconfigured),
        (404, b"not here", Misconfigured),
        (302, b"", Misconfigured),
        (200, b"<html>welcome</html>", Misconfigured),
        (200, b'{"access_token":"two words"}', Misconfigured),
        (200, b'"' + b"x" * 100_000 + b'"', Misconfigured),
    ],
)
async def test_an_answer_without_a_token_says_what_to_do(
    realm: Realm, world: World, status: int, body: bytes, kind: type[Exception]
) -> None:
    realm.provider.answer = status, body
    assert type(await refused(world.sink(**realm.login()))) is kind


def tls_of(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.issue("provider"))
    return context


async def test_the_authority_of_the_brokers_is_trusted_for_the_provider_too(
    realm: Realm, world: World, tmp_path: Path
) -> None:
    with IdentityProvider(like=realm.provider, tls=tls_of(realm.kafka.certificates)) as trusted:
        async with world.opened(create=True, **realm.login(token_url=trusted.token_url)):
            pass
    with IdentityProvider(like=realm.provider, tls=tls_of(Certificates(tmp_path / "tls"))) as stranger:
        said = await refused(world.sink(**realm.login(token_url=stranger.token_url)))
        assert isinstance(said, Misconfigured)
        assert "`tls.ca`" in str(said)
        assert stranger.issued == []


async def test_no_tls_where_tls_was_said_needs_a_person(realm: Realm, world: World) -> None:
    url = realm.provider.token_url.replace("http:", "https:")
    said = await refused(world.sink(**realm.login(token_url=url)))
    assert isinstance(said, Misconfigured)
    assert "TLS" in str(said)


async def test_logins_that_expire_are_not_noticed_by_a_busy_pipeline_nor_by_an_idle_one(
    own_kafka: Callable[..., KafkaServer],
) -> None:
    """aiokafka does not log in again on an open connection (KIP-368): the broker closes it under the next request."""
    with IdentityProvider() as provider:
        provider.lifetime_seconds = 2
        expires_seconds = 0.5
        config = {"listener.name.secured.connections.max.reauth.ms": str(int(expires_seconds * 1000))}
        realm = Realm(own_kafka(secured=True, jwks_url=provider.jwks_url, config=config), provider)
        servers = realm.kafka.secured_bootstrap_servers
        busy, idle = World(servers, "busy"), World(servers, "idle")

        now = asyncio.get_running_loop().time
        async with (
            busy.opened(create=True, partitions=2, **realm.login()) as busy_sink,
            idle.opened(create=True, **realm.login()) as idle_sink,
        ):
            tokens = len(provider.issued)
            sequence, ends = 0, now() + 8 * expires_seconds
            while now() < ends:
                sequence += 1
                await busy_sink.write(make_batch(sequence))
                if sequence % 100 == 0:
                    await busy_sink.position()
            await idle_sink.position()
            await idle_sink.write(make_batch(FIRST))

    print(f"{sequence} writes, {len(provider.issued)} tokens")
    assert len(provider.issued) > tokens
    assert sorted(await World(realm.kafka.bootstrap_servers, "busy").sequences()) == list(range(1, sequence + 1))
    assert await World(realm.kafka.bootstrap_servers, "idle").sequences() == [FIRST]
