"""`state:` URLs: which store they name, and what is said about those that name none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from oplogbridge.errors import Misconfigured
from oplogbridge.state.memory import MemoryStateStore
from oplogbridge.state.redis import RedisStateStore
from oplogbridge.state.sqlite import SqliteStateStore
from oplogbridge.state.urls import check_url, state_store
from oplogbridge.testing.clock import ManualClock


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory:", MemoryStateStore),
        ("sqlite:///oplog-bridge.db", SqliteStateStore),
        ("sqlite:////var/lib/oplog-bridge/state.db", SqliteStateStore),
        ("redis://localhost", RedisStateStore),
        ("redis://bridge:p%40ss%23word@redis.example:6380/3", RedisStateStore),
        ("rediss://[::1]:6379/0?ssl_ca_certs=/etc/ca.pem", RedisStateStore),
        ("redis+sentinel://a:26379,b/mymaster/3", RedisStateStore),
        ("rediss+cluster://a:6379,b?ssl_ca_certs=/etc/ca.pem", RedisStateStore),
    ],
)
def test_a_url_names_a_store(url: str, kind: type) -> None:
    assert check_url(url) is None
    assert isinstance(state_store(url, name="oplog-bridge", clock=ManualClock()), kind)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://a:26379", "names no service"),
        ("redis+sentinel://a:26379/mymaster?ssl_ca_certs=x", "takes sentinel_username, sentinel_password"),
        ("redis+cluster://a:6379/1", "database 0 alone"),
        ("redis+nodes://a:6379", "unknown scheme 'redis+nodes'"),
        ("redis://a,b/0", "names one"),
        ("rediss://a/0?ssl_keyfile=x", "ssl_certfile"),
        ("postgres://localhost/state", "unknown scheme 'postgres'; this version knows sqlite:///, redis://"),
        ("oplog-bridge.db", "not a URL"),
        ("", "not a URL"),
        ("memory://", "written `memory:`"),
        ("sqlite://oplog-bridge.db", "sqlite:///file"),
        ("sqlite:///", "sqlite:///file"),
        ("sqlite:///:memory:", "write `memory:`"),
        ("sqlite:///directory/", "names a file"),
        ("sqlite:///state.db?mode=ro", "no options"),
        ("redis:///0", "names no host"),
        ("redis://localhost:port/0", "cannot be read"),
        ("redis://localhost/zero", "number of a database"),
        ("redis://localhost/-1", "number of a database"),
        ("redis://localhost/0?socket_timeout=0", "unknown option"),
        ("rediss://localhost/0?ssl_cert_reqs=none", "unknown option"),
    ],
)
def test_a_url_that_names_none_is_told_why(url: str, said: str) -> None:
    problem = check_url(url)
    assert problem is not None
    assert said in problem
    with pytest.raises(Misconfigured, match=r"^state: "):
        state_store(url, name="oplog-bridge", clock=ManualClock())


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@local host:70000/0",
        "redis://:s3cret#more@localhost/0",
        "redis://:s3cret/more@localhost:6379/0",
        "redis://:s3cret?more@localhost:6379/0",
        "redis://:s3cret[more@localhost:6379/0",
        "redsi://:s3cret@localhost/0",
        "redis+sentinel://:s3cret@localhost",
        "redis+sentinel://localhost/name/x?sentinel_password=s3cret",
        "redis://:s3cret@localhost/0?password=s3cret",
        "redis://:s3cret@localhost/s3cret",
    ],
)
def test_a_problem_never_quotes_a_password(url: str) -> None:
    problem = check_url(url)
    assert problem is not None
    assert "s3cret" not in problem


def test_a_store_never_shows_its_password() -> None:
    store = state_store("redis://bridge:s3cret@redis.example:6380/3", name="oplog-bridge", clock=ManualClock())
    assert repr(store) == "RedisStateStore(redis://redis.example:6380/3, {oplog-bridge}:)"


async def test_a_relative_path_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = state_store("sqlite:///my%20state.db", name="oplog-bridge", clock=ManualClock())
    await store.open()
    await store.close()
    assert (tmp_path / "my state.db").exists()


def test_a_redis_url_without_the_extra_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    for module in ("redis", "redis_link"):
        monkeypatch.delitem(sys.modules, f"oplogbridge.state.{module}")
    with pytest.raises(Misconfigured, match=r"pip install 'oplog-bridge\[redis\]'"):
        state_store("redis://localhost", name="oplog-bridge", clock=ManualClock())
    state_store("memory:", name="oplog-bridge", clock=ManualClock())


@pytest.mark.parametrize("name", ["", "a{b", "a}b"])
def test_a_name_that_would_break_the_hash_tag_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="hash tag"):
        state_store("redis://localhost", name=name, clock=ManualClock())
