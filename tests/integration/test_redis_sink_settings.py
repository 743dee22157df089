"""What the Redis sink makes of its configuration and of the errors it meets; TLS. No server but a borrowed one."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from pydantic import ValidationError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Cut

from certificates import self_signed
from oplogbridge import BridgeError, Misconfigured, SinkContext, Unavailable
from oplogbridge.redis_nodes.address import redis_address
from oplogbridge.testing import make_batch
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge_sinks.redis import RedisSettings, plugin
from oplogbridge_sinks.redis.names import hash_of
from oplogbridge_sinks.redis.refusals import translate
from services import RedisServer

FIRST = (1423124097 << 32) + 1
CONTEXT = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id="https://example.com/1")


@pytest.mark.parametrize(
    ("stream", "key"),
    [
        ("oplog:{source}", "{oplog:shop}:oplog-bridge"),
        ("oplog:{source}:{type}", "{oplog:shop:type}:oplog-bridge"),
        ("oplog:{type}.{operation}", "{oplog:type.operation}:oplog-bridge"),
        ("{{prod}}:oplog:{source}:{type}", "{prod}:oplog-bridge"),
        ("oplog:{{{source}}}:{type}", "{shop}:oplog-bridge"),
        ("{pipeline}", "{orders}:oplog-bridge"),
    ],
)
def test_the_position_lies_in_the_slot_of_the_streams(stream: str, key: str) -> None:
    assert hash_of(stream, CONTEXT) == key


@pytest.mark.parametrize(
    ("stream", "destination"),
    [("oplog:{source}", "redis:oplog:shop"), ("{{x}}{source}:{type}", "redis:{x}shop:{type}")],
)
def test_the_destination_is_named_without_host_and_password(stream: str, destination: str) -> None:
    settings = RedisSettings.model_validate({"url": "redis://user:hidden@secret.host:1/2", "stream": stream})
    assert plugin.build(settings, CONTEXT).destination == destination


@pytest.mark.parametrize(
    ("changes", "rights"),
    [
        ({}, "~oplog:shop ~{oplog:shop}:oplog-bridge -@all +eval"),
        ({"stream": "o:{type}"}, "~o:* ~{o:type}:oplog-bridge"),
        ({"stream": "o[{source}]"}, r"~o[shop] ~{o\[shop\]}:oplog-bridge"),
        ({"max_entries": 5}, "+xtrim"),
        ({"wait_replicas": 1}, "+wait"),
        ({"url": "redis://host/3"}, "+select"),
        ({"url": "redis+cluster://host"}, "+asking"),
    ],
)
def test_the_rights_to_grant_are_listed(changes: dict[str, object], rights: str) -> None:
    (line,) = plugin.permissions(RedisSettings.model_validate({"url": "redis://host"} | changes), CONTEXT)
    assert rights in line


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hidden@host",
        "redis://user:hidden@",
        "redis://user:hidden@host/name",
        "redis://user:hidden@host?timeout=1",
        "rediss://user:hidden@host?ssl_cert_reqs=none",
        "rediss://user:hidden@host?ssl_check_hostname=false",
        "redis://user:hidden@host:port",
    ],
)
def test_a_url_that_is_wrong_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RedisSettings.model_validate({"url": url})
    assert "hidden" not in f"{refused.value} {refused.value!r}"


@pytest.mark.parametrize("stream", ["", "{source", "{id}"])
def test_a_stream_that_names_nothing_is_refused(stream: str) -> None:
    with pytest.raises(ValidationError):
        RedisSettings.model_validate({"url": "redis://host", "stream": stream})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Cut("Error 111 connecting"), Unavailable),
        (TimeoutError(), Unavailable),
        (OSError(104, "reset"), Unavailable),
        (BusyLoadingError("Redis is loading the dataset in memory"), Unavailable),
        (ReadOnlyError("You can't write against a read only replica."), Unavailable),
        (MasterDownError("Link with MASTER is down"), Unavailable),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), Unavailable),
        (ClusterDownError("Hash slot not served"), Unavailable),
        (MovedError("3999 127.0.0.1:6381"), Unavailable),
        (AskError("3999 127.0.0.1:6381"), Unavailable),
        (TryAgainError("Multiple keys request during rehashing of slot"), Unavailable),
        (ResponseError("BUSY Redis is busy running a script."), Unavailable),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), Unavailable),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), Unavailable),
        (ResponseError("Error running script (call to f_1): @user_script:38: -OOM command not allowed"), Unavailable),
        (ResponseError("Error running script: @user_script: 38: -READONLY You can't write"), Unavailable),
        (AuthenticationError("invalid username-password pair or user is disabled."), Misconfigured),
        (NoPermissionError("User bridge has no permissions to access a key"), Misconfigured),
        (ResponseError("ACL failure in script: User bridge has no permissions to run 'xadd'"), Misconfigured),
        (ClusterCrossSlotError("Keys in request don't hash to the same slot"), Misconfigured),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), Misconfigured),
        (ResponseError("DB index is out of range"), Misconfigured),
        (ResponseError("unknown command 'EVALSHA'"), Misconfigured),
    ],
)
def test_every_error_says_what_to_do_next(error: Exception, kind: type[BridgeError]) -> None:
    translated = translate(error, "redis:oplog:shop", redis_address("redis://host"))
    assert type(translated) is kind
    assert str(translated).startswith("redis:oplog:shop: ")
    assert ";" in str(translated)
    assert "\n" not in str(translated)


async def test_tls_is_verified(redis_server: RedisServer, unique: str, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with FaultProxy("127.0.0.1", redis_server.port, tls=context) as proxy:
        for url in (
            f"rediss://127.0.0.1:{proxy.port}",  # signed by nobody we trust
            f"rediss://localhost:{proxy.port}?ssl_ca_certs={certificate}",  # for another name
            f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={tmp_path / 'missing.pem'}",
            f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={__file__}",  # no certificate
        ):
            sink = plugin.build(RedisSettings.model_validate({"url": url, "stream": unique}), CONTEXT)
            with pytest.raises(Misconfigured, match=r"certificate|TLS"):
                await sink.open()
            await sink.close()

        trusted = {"url": f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={certificate}", "stream": unique}
        sink = plugin.build(RedisSettings.model_validate(trusted), CONTEXT)
        await sink.open()
        await sink.write(make_batch(FIRST))
        await sink.close()
