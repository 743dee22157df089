"""Logins, TLS and rights, each against a real server that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from nats_reader import read_stream
from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext
from oplogbridge.testing import make_batch
from oplogbridge.testing.sink_rig import chain
from oplogbridge_sinks.nats import NatsSettings, NatsSink, plugin
from services import NatsServer
from services.nats_jwt import decentralised, new_key

CONTEXT = SinkContext("bridge.orders", "orders", "shop", "shop-1")
MakeServer = Callable[..., NatsServer]


def sink_of(server: NatsServer, **settings: Any) -> NatsSink:
    common = {"url": server.url, "stream": "S", "subject": "s.{type}.{operation}", "create": True, "timeout": "5s"}
    return NatsSink(NatsSettings.model_validate(common | settings), CONTEXT)


async def works(sink: NatsSink) -> None:
    try:
        position = await sink.open()
        offset = 1 if position is None else position.offset
        await sink.write(make_batch(offset, offset + 1))
    finally:
        await sink.close()


async def refusal(sink: NatsSink) -> BridgeError:
    with pytest.raises(BridgeError) as refused:
        await sink.open()
    await sink.close()
    return refused.value


async def test_a_token(own_nats: MakeServer) -> None:
    server = own_nats(config={"authorization": {"token": "correct-horse"}})

    await works(sink_of(server, token="correct-horse"))
    for wrong in ({"token": "wrong-battery"}, {}):
        refused = await refusal(sink_of(server, **wrong))
        assert isinstance(refused, Misconfigured)
        assert "mend the login" in str(refused)
        assert not [text for text in chain(refused) if "battery" in text]


async def test_an_nkey(own_nats: MakeServer, tmp_path: Path) -> None:
    ours, other = new_key("user"), new_key("user")
    server = own_nats(config={"authorization": {"users": [{"nkey": ours.public}]}})
    for name, key in (("ours", ours), ("other", other)):
        (tmp_path / name).write_bytes(key.seed)
    (tmp_path / "none").write_text("no seed at all")

    await works(sink_of(server, nkey=str(tmp_path / "ours")))
    for wrong in ("other", "none", "missing"):
        refused = await refusal(sink_of(server, nkey=str(tmp_path / wrong)))
        assert isinstance(refused, Misconfigured), refused
        assert not [text for text in chain(refused) if ours.seed.decode() in text or other.seed.decode() in text]


async def test_a_credentials_file(own_nats: MakeServer, tmp_path: Path) -> None:
    ours, strangers = decentralised(), decentralised()
    server = own_nats(config=ours.config)
    for name, credentials in (("ours.creds", ours.credentials), ("strangers.creds", strangers.credentials)):
        (tmp_path / name).write_text(credentials)
    (tmp_path / "broken.creds").write_text("-----BEGIN NATS USER JWT-----\n")

    await works(sink_of(server, credentials=str(tmp_path / "ours.creds")))
    for wrong in ("strangers.creds", "broken.creds", "missing.creds"):
        refused = await refusal(sink_of(server, credentials=str(tmp_path / wrong)))
        assert isinstance(refused, Misconfigured), refused


async def test_tls_is_verified_and_a_client_shows_its_certificate(own_nats: MakeServer, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    certificate, key = authority.signed("server")
    tls = {"cert_file": str(certificate), "key_file": str(key), "ca_file": str(authority.file), "verify": True}
    server = own_nats(config={"tls": tls})
    url = server.url.replace("nats://", "tls://")
    ours, theirs = authority.signed("ours"), stranger.signed("theirs")
    with_ours = {"certificate": str(ours.certificate), "key": str(ours.key)}

    await works(sink_of(server, url=url, tls={"ca": str(authority.file), **with_ours}))
    await works(sink_of(server, tls={"ca": str(authority.file), **with_ours}))  # nats:// with `tls` is TLS too

    for wrong in (
        {"ca": str(stranger.file), **with_ours},
        {**with_ours},
        {"ca": str(tmp_path / "missing.pem"), **with_ours},
    ):
        refused = await refusal(sink_of(server, url=url, tls=wrong))
        assert isinstance(refused, Misconfigured), refused
        assert "tls" in str(refused)
    for unknown in (
        {"ca": str(authority.file)},
        {"ca": str(authority.file), "certificate": str(theirs.certificate), "key": str(theirs.key)},
    ):
        # TLS 1.3 refuses a client after the handshake, and the reason can be lost on the way.
        assert isinstance(await refusal(sink_of(server, url=url, tls=unknown)), (Misconfigured, Unavailable))
    assert "tls" in str(await refusal(sink_of(server))).lower()


async def test_another_host_name_than_the_certificates_is_refused(own_nats: MakeServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.signed("server")  # for 127.0.0.1
    server = own_nats(config={"tls": {"cert_file": str(certificate), "key_file": str(key)}})

    refused = await refusal(sink_of(server, url=f"tls://localhost:{server.port}", tls={"ca": str(authority.file)}))

    assert isinstance(refused, Misconfigured)
    assert "the host as it does" in str(refused)


@pytest.mark.parametrize("missing", ["s.*.*", "$JS.API.STREAM.INFO.S", "$JS.API.STREAM.MSG.GET.S", "_INBOX.>"])
async def test_a_right_that_is_missing_is_named(own_nats: MakeServer, missing: str) -> None:
    settings = sink_of(own_nats(), create=False)._settings
    granted = dict(line.split(": ") for line in plugin.permissions(settings, CONTEXT))
    permissions = {
        right: [subject for subject in subjects.split(", ") if subject != missing] or ["nothing"]
        for right, subjects in granted.items()
    }
    users = [
        {"user": "bridge", "password": "correct-horse", "permissions": permissions},
        {"user": "all", "password": "all"},
    ]
    server = own_nats(config={"authorization": {"users": users}})
    await works(sink_of(server, url=server.url_for("all", "all")))
    sink = sink_of(server, url=server.url_for("bridge", "correct-horse"), create=False)

    with pytest.raises(Misconfigured, match="check --connect") as refused:
        await works(sink)

    assert missing.split(".")[0].lower() in str(refused.value).lower()
    assert len(await read_stream(server.url_for("all", "all"), "S")) == 2


def test_two_logins_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="takes one login"):
        NatsSettings.model_validate({"url": "nats://a:b@host", "token": "t"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://host"},
        {"url": "nats://host/path"},
        {"url": "nats://a,tls://b"},
        {"url": "nats://host:99999"},
        {"url": "nats://h", "stream": "A.B"},
        {"url": "nats://h", "stream": "OPLOG_{type}"},
        {"url": "nats://h", "subject": "oplog.>"},
        {"url": "nats://h", "subject": "oplog..{type}"},
        {"url": "nats://h", "inbox_prefix": "a b"},
    ],
)
def test_settings_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|scheme"):
        NatsSettings.model_validate(wrong)
