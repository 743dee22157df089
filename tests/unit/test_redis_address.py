"""What a Redis URL means; and what docs/redis.md says of URLs and rights is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oplogbridge import SinkContext
from oplogbridge.redis_nodes.address import AddressError, RedisAddress, Server, redis_address
from oplogbridge.state.redis import permissions
from oplogbridge_sinks.redis import RedisSettings, plugin

GUIDE = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress((Server("localhost", 6379),))),
        ("redis://a:p%40s%2Fs@Host:1/2", RedisAddress((Server("host", 1),), 2, "a", "p@s/s")),
        ("redis://:p@ss@host", RedisAddress((Server("host", 6379),), 0, None, "p@ss")),
        ("redis://[::1]:7", RedisAddress((Server("::1", 7),))),
        (
            "redis+sentinel://u:p@a,[::2],b:1/my%2Fservice/3?sentinel_username=s&sentinel_password=p%26q",
            RedisAddress(
                (Server("a", 26379), Server("::2", 26379), Server("b", 1)), 3, "u", "p", "my/service", "s", "p&q"
            ),
        ),
        ("redis+cluster://a,b:1", RedisAddress((Server("a", 6379), Server("b", 1)), cluster=True)),
        ("redis+cluster://a/0", RedisAddress((Server("a", 6379),), cluster=True)),
        (
            "rediss+sentinel://a/s?ssl_ca_certs=/c&ssl_certfile=/d&ssl_keyfile=/e",
            RedisAddress(
                (Server("a", 26379),), service="s", tls=True, ca_certs="/c", certfile="/d", keyfile="/e"
            ),
        ),
    ],
)  # fmt: skip
def test_a_url_means_an_address(url: str, address: RedisAddress) -> None:
    assert redis_address(url) == address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:hidden@host", "redis://host:6379/0"),
        ("rediss+cluster://u:hidden@a,[::1]:1?ssl_ca_certs=/c", "rediss+cluster://a:6379,[::1]:1"),
        ("redis+sentinel://a/s?sentinel_password=hidden", "redis+sentinel://a:26379/s/0"),
    ],
)
def test_an_address_is_shown_without_who_we_are(url: str, shown: str) -> None:
    address = redis_address(url)
    assert str(address) == shown
    assert "hidden" not in repr(address)
    assert address.without_secrets("unknown command 'AUTH' 'hidden'") == "unknown command 'AUTH' '***'"


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a,,b/s", "redis+cluster://a:0", "redis+cluster://a:65536", "redis+sentinel://,a/s"]
)
def test_a_host_or_port_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AddressError, match=r"host"):
        redis_address(url)


def test_every_url_of_the_guide_is_one() -> None:
    urls = re.findall(r"rediss?(?:\+\w+)?://\w[^\s`]+", GUIDE)
    assert len(urls) == 4
    for url in urls:
        redis_address(url)


def test_the_rights_of_the_guide_are_those_that_are_needed() -> None:
    context = SinkContext("oplog-bridge.p", "p", "shop", "any")
    sink, store = re.findall(r"^ACL SETUSER .+$", GUIDE, re.MULTILINE)
    assert plugin.permissions(RedisSettings.model_validate({"url": "redis://host"}), context) == [sink]
    assert permissions("oplog-bridge", redis_address("redis://host")) == [store.partition(" -@all ")[2]]

    for url, rights in (("redis+sentinel://host/s", "+role"), ("redis+cluster://host", "+asking")):
        (rule, *_) = permissions("oplog-bridge", redis_address(url))
        assert rule.endswith(f" {rights}")
        assert rights in GUIDE
