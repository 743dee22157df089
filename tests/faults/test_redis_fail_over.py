"""The Redis under a copy changes its master, or moves our slot: 0 lost, 0 twice, 0 out of order, whatever the moment.

Sink and state store are on the same servers, so both have to find their way. What a fail-over takes back of writes that
were acknowledged is delivered again, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rig
from auditor import EXACT, audit, read_redis
from services import RedisCluster, RedisSentinels, RedisServer
from services.redis_sentinels import SERVICE
from services.resp import ask, until

ENTRIES = 4_000
COPY_SECONDS_MAX = 60.0
SLOW_COPY = {"page_limit": 25, "poll_interval": "20ms"}
REPLICATION_USER = "replication"


def config_of(folder: Path, source: rig.EmulatorProcess, url: str, name: str, state: str, **sink: Any) -> Path:
    """`timeout` and `lease_ttl` are short: the test waits for them."""
    settings = {"kind": "redis", "url": url, "stream": name, "timeout": "2s", **sink}
    return rig.write_config(
        folder / "c.yaml", source, {"copy": settings}, state=state, source_options=SLOW_COPY, name=name, lease_ttl="2s"
    )


def until_copied(server: RedisServer, stream: str, entries: int) -> None:
    until(lambda: ask(server, "XLEN", stream) >= entries, f"{entries} entries copied", server)


@pytest.mark.parametrize("how", ["killed", "demoted"])
def test_a_fail_over_in_the_middle_of_a_copy_loses_and_doubles_nothing(
    tmp_path: Path, own_redis_sentinels: Callable[..., RedisSentinels], unique: str, how: str
) -> None:
    """With `wait_replicas: 1` what counts has reached the replica. The old master comes back as the new replica."""
    redis = own_redis_sentinels()
    with rig.emulator("--entries", str(ENTRIES)) as source:
        config = config_of(tmp_path, source, redis.url, unique, redis.url, wait_replicas=1)
        with rig.bridge(config, tmp_path / "bridge.log", "--until-caught-up") as bridge:
            bridge.start()
            old = redis.master
            until_copied(old, unique, ENTRIES // 4)
            if how == "killed":
                old.kill()
                new = redis.failed_over(since=old)
                old.restart()
            else:
                ask(redis.sentinels[0], "SENTINEL", "FAILOVER", SERVICE)
                new = redis.failed_over(since=old)
            assert ask(new, "XLEN", unique) < ENTRIES, "the copy was over: make it longer"
            assert bridge.exited(COPY_SECONDS_MAX) == 0, bridge.tail()
        assert "lost acknowledged writes" not in bridge.log.read_text()
        assert audit(source.entries(), read_redis(new.url, unique)) == EXACT


@pytest.mark.parametrize("state", ["with them", "elsewhere"])
def test_acknowledged_writes_that_a_fail_over_lost_are_delivered_again(
    tmp_path: Path, own_redis_sentinels: Callable[..., RedisSentinels], unique: str, state: str
) -> None:
    """Without `wait_replicas`: the replica is cut off, the master goes on alone and dies.

    The store that is elsewhere knows how far the destination was: that is said aloud. One that lost its saves together
    with the destination cannot know, and need not: what it has belongs to what the destination has.
    """
    redis = own_redis_sentinels(acl=(f"user {REPLICATION_USER} on >replicate +psync +replconf +ping",))
    old, replica = redis.master, redis.replica
    ask(replica, "CONFIG", "SET", "masteruser", REPLICATION_USER)
    ask(replica, "CONFIG", "SET", "masterauth", "replicate")
    with rig.emulator("--entries", str(ENTRIES)) as source:
        store = redis.url if state == "with them" else f"sqlite:///{tmp_path / 'state.db'}"
        config = config_of(tmp_path, source, redis.url, unique, store)
        with rig.bridge(config, tmp_path / "bridge.log", "--until-caught-up") as bridge:
            bridge.start()
            until_copied(replica, unique, ENTRIES // 6)
            ask(old, "ACL", "SETUSER", REPLICATION_USER, "off")
            ask(old, "CLIENT", "KILL", "TYPE", "replica")
            kept = ask(replica, "XLEN", unique)
            until_copied(old, unique, kept + ENTRIES // 6)
            old.kill()
            new = redis.failed_over(since=old)
            assert kept <= ask(new, "XLEN", unique) < ENTRIES, "the copy was over: make it longer"
            assert bridge.exited(COPY_SECONDS_MAX) == 0, bridge.tail()
        said = "the destination lost acknowledged writes" in bridge.log.read_text()
        assert said == (state == "elsewhere")
        assert audit(source.entries(), read_redis(new.url, unique)) == EXACT


def test_moving_our_slot_in_the_middle_of_a_copy_loses_and_doubles_nothing(
    tmp_path: Path, redis_cluster: RedisCluster, unique: str
) -> None:
    """The stream's slot and the state's, forth and back; once halted with the position there and the stream here."""
    state, position = f"{{{unique}-state}}:any", f"{{{unique}}}:oplog-bridge"
    with rig.emulator("--entries", str(ENTRIES)) as source:
        config = config_of(tmp_path, source, redis_cluster.url, unique, redis_cluster.url)
        config.write_text(config.read_text().replace(f"\nname: {unique}\n", f"\nname: {unique}-state\n"))
        with rig.bridge(config, tmp_path / "bridge.log", "--until-caught-up") as bridge:
            bridge.start()
            for part in (1, 2, 3):
                owner, to = redis_cluster.owner(unique), redis_cluster.other(unique)
                until_copied(owner, unique, part * ENTRIES // 5)
                redis_cluster.begin_move(unique, to)
                redis_cluster.move_keys(unique, to, position)
                if part == 1:
                    bridge.logged("during rehashing of slot")  # TRYAGAIN: nothing can be done before the rest is there
                redis_cluster.move_keys(unique, to)
                redis_cluster.end_move(unique, to)
                redis_cluster.move(state, redis_cluster.other(state))
                assert ask(to, "XLEN", unique) < ENTRIES, "the copy was over: make it longer"
            assert bridge.exited(COPY_SECONDS_MAX) == 0, bridge.tail()
        assert audit(source.entries(), read_redis(redis_cluster.owner(unique).url, unique)) == EXACT
