"""TLS and SASL against a broker that insists on both."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from kafka_world import World
from needed import needed
from oplogbridge import BridgeError, Misconfigured
from oplogbridge.testing import make_batch
from oplogbridge.testing.sink_rig import FIRST, chain
from services import KafkaServer
from services.kafka_security import Certificates


@pytest.fixture(scope="module")
def secured_kafka() -> Any:
    with needed(), KafkaServer().start(secured=True) as server:
        yield server


def _login(server: KafkaServer, mechanism: str = "PLAIN", **changes: str) -> dict[str, Any]:
    return {
        "tls": {"ca": str(server.ca_path)},
        "sasl": {"mechanism": mechanism, "username": server.username, "password": server.password} | changes,
    }


def _connections_to(server: KafkaServer) -> list[Any]:
    port = int(server.secured_bootstrap_servers.rpartition(":")[2])
    return [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_login_over_tls(secured_kafka: KafkaServer, unique: str, mechanism: str) -> None:
    world = World(secured_kafka.secured_bootstrap_servers, unique)
    async with world.opened(create=True, **_login(secured_kafka, mechanism)) as sink:
        await sink.write(make_batch(FIRST))
    assert await World(secured_kafka.bootstrap_servers, unique).sequences() == [FIRST]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_needs_a_person_and_is_not_shown(
    secured_kafka: KafkaServer, unique: str, mechanism: str
) -> None:
    sink = World(secured_kafka.secured_bootstrap_servers, unique).sink(
        **_login(secured_kafka, mechanism, password="not-the-secret")
    )
    with pytest.raises(Misconfigured, match="sasl") as refused:
        await sink.open()
    await sink.close()
    assert not _connections_to(secured_kafka)  # one was left closing, and became the next test's ResourceWarning
    assert not [text for text in chain(refused.value) if "not-the-secret" in text]


async def test_a_certificate_of_an_unknown_authority_needs_a_person(secured_kafka: KafkaServer, unique: str) -> None:
    login = _login(secured_kafka) | {"tls": True}
    sink = World(secured_kafka.secured_bootstrap_servers, unique).sink(**login)
    with pytest.raises(Misconfigured, match=r"tls\.ca"):
        await sink.open()
    await sink.close()


async def test_a_missing_certificate_file_needs_a_person(secured_kafka: KafkaServer, unique: str) -> None:
    login = _login(secured_kafka) | {"tls": {"ca": "/nowhere/ca.pem"}}
    sink = World(secured_kafka.secured_bootstrap_servers, unique).sink(**login)
    with pytest.raises(Misconfigured, match=r"/nowhere/ca\.pem"):
        await sink.open()
    await sink.close()


@pytest.mark.parametrize("confused", ["plaintext to the TLS port", "TLS to the plaintext port"])
async def test_the_wrong_protocol_does_not_hang(secured_kafka: KafkaServer, unique: str, confused: str) -> None:
    if confused.startswith("TLS"):
        sink = World(secured_kafka.bootstrap_servers, unique).sink(timeout="2s", **_login(secured_kafka))
    else:
        sink = World(secured_kafka.secured_bootstrap_servers, unique).sink(timeout="2s")
    async with asyncio.timeout(20):
        with pytest.raises(BridgeError):
            await sink.open()
        await sink.close()


# A client's certificate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_password", [None, "key-secret"], ids=["plain key", "encrypted key"])
async def test_a_login_by_certificate(secured_kafka: KafkaServer, unique: str, key_password: str | None) -> None:
    certificate, key = secured_kafka.certificates.issue(unique, key_password=key_password)
    tls = {"ca": str(secured_kafka.ca_path), "certificate": str(certificate), "key": str(key)}
    world = World(secured_kafka.certificate_bootstrap_servers, unique)
    async with world.opened(create=True, tls=tls | {"key_password": key_password}) as sink:
        await sink.write(make_batch(FIRST))
    assert await World(secured_kafka.bootstrap_servers, unique).sequences() == [FIRST]


async def test_one_file_may_hold_certificate_and_key(secured_kafka: KafkaServer, unique: str, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in secured_kafka.certificates.issue(unique)))
    tls = {"ca": str(secured_kafka.ca_path), "certificate": str(both)}
    async with World(secured_kafka.certificate_bootstrap_servers, unique).opened(create=True, tls=tls):
        pass


@pytest.mark.parametrize("wrong", ["none at all", "of an unknown authority", "a wrong password of its key"])
async def test_a_certificate_that_is_no_login_needs_a_person(
    secured_kafka: KafkaServer, unique: str, tmp_path: Path, wrong: str
) -> None:
    tls: dict[str, Any] = {"ca": str(secured_kafka.ca_path)}
    if wrong != "none at all":
        strangers = wrong == "of an unknown authority"
        authority = Certificates(tmp_path / "tls") if strangers else secured_kafka.certificates
        certificate, key = authority.issue(unique, key_password="right-password")
        tls |= {"certificate": str(certificate), "key": str(key)}
        tls["key_password"] = "right-password" if strangers else "wrong-password"

    said = await World(secured_kafka.certificate_bootstrap_servers, unique).refused(tls=tls)

    assert "`tls" in said
    assert "-password" not in said
