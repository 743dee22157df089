"""What only Redis does: memory limits, rights, replicas, fail-over, clusters, streams that others touch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from oplogbridge import Batch, Fenced, Misconfigured, Rejected, Sink, SinkContext, Unavailable
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge_sinks.redis import RedisSettings, plugin
from services import RedisServer

FIRST = (1423124097 << 32) + 1

Own = Callable[..., RedisServer]


def sink_of(server_or_url: RedisServer | str, name: str, **settings: Any) -> Sink:
    url = server_or_url if isinstance(server_or_url, str) else server_or_url.url
    named = {"url": url, "stream": f"{name}:{{source}}"} | settings
    context = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id="https://example.com/1")
    return plugin.build(RedisSettings.model_validate(named), context)


@asynccontextmanager
async def opened(server: RedisServer | str, name: str, **settings: Any) -> AsyncIterator[Sink]:
    sink = sink_of(server, name, **settings)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def open_and_write(sink: Sink) -> None:
    await sink.open()
    await sink.write(make_batch(FIRST))


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=redis_server.port, decode_responses=True) as client:
        yield client


async def sequences_in(client: Redis, stream: str) -> list[int]:
    ids = [entry.decode() if isinstance(entry, bytes) else entry for entry, _ in await client.xrange(stream)]
    assert all(text.endswith("-0") for text in ids)
    return [int(text.removesuffix("-0")) for text in ids]


# What Redis refuses ------------------------------------------------------------------------------------------------


async def test_a_full_redis_does_nothing_at_all_and_goes_on_in_order(own_redis: Own, unique: str) -> None:
    server = own_redis(config={"maxmemory": "8mb"})
    batches = [make_batch(make_event(FIRST + n, payload=b"x" * 500_000)) for n in range(40)]
    async with Redis(port=server.port) as client, opened(server, unique) as sink:
        written = 0
        with pytest.raises(Unavailable, match="maxmemory"):  # noqa: PT012
            for written, batch in enumerate(batches):  # noqa: B007
                await sink.write(batch)
        hash_key = f"{{{unique}:shop}}:oplog-bridge"
        assert 0 < written < len(batches)
        assert await client.xlen(f"{unique}:shop") == written
        assert int(await client.hget(hash_key, "offset")) == batches[written].from_offset

        await client.config_set("maxmemory", "0")
        position = await sink.open()
        assert position is not None
        for batch in batches[position.offset - FIRST :]:
            await sink.write(batch)

        assert await sequences_in(client, f"{unique}:shop") == [FIRST + n for n in range(40)]


async def test_scripts_that_were_forgotten_are_taught_again(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    async with opened(redis_server, unique) as sink:
        await sink.write(make_batch(FIRST))
        await client.script_flush()
        await sink.write(make_batch(FIRST + 1))

    assert await sequences_in(client, f"{unique}:shop") == [FIRST, FIRST + 1]


@pytest.mark.parametrize("taken", ["stream", "hash"])
async def test_a_key_of_another_type_stops_the_pipeline(
    redis_server: RedisServer, client: Redis, unique: str, taken: str
) -> None:
    key = f"{unique}:shop" if taken == "stream" else f"{{{unique}:shop}}:oplog-bridge"
    await client.set(key, "a string")
    sink = sink_of(redis_server, unique)

    with pytest.raises(Misconfigured):
        await sink.open()
    await sink.close()

    assert await client.get(key) == "a string"


async def test_a_stream_replaced_by_another_type_stops_the_pipeline(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    async with opened(redis_server, unique) as sink:
        await sink.write(make_batch(FIRST))
        await client.delete(f"{unique}:shop")
        await client.set(f"{unique}:shop", "a string")

        with pytest.raises(Misconfigured, match="is a string"):
            await sink.write(make_batch(FIRST + 1))
        position = await sink.position()

    assert position is not None
    assert position.offset == FIRST + 1


@pytest.mark.parametrize("right", ["xadd", "hset", "type", "hmget", "evalsha"])
async def test_a_missing_right_stops_the_pipeline_and_nothing_is_half_done(
    redis_server: RedisServer, client: Redis, unique: str, right: str
) -> None:
    await client.execute_command("ACL", "SETUSER", unique, "on", ">pw", "~*", "+@all", f"-{right}")
    sink = sink_of(f"redis://{unique}:pw@127.0.0.1:{redis_server.port}", unique)

    with pytest.raises(Misconfigured, match="check --connect"):
        await open_and_write(sink)
    await sink.close()

    assert await client.exists(f"{unique}:shop") == 0
    assert await client.hget(f"{{{unique}:shop}}:oplog-bridge", "offset") is None


@pytest.mark.parametrize("login", ["", "nobody:pw@", ":wrong@"])
async def test_a_wrong_password_stops_the_pipeline(own_redis: Own, unique: str, login: str) -> None:
    server = own_redis(config={"requirepass": "s3cret"})
    sink = sink_of(f"redis://{login}127.0.0.1:{server.port}", unique)

    with pytest.raises(Misconfigured):
        await sink.open()
    await sink.close()


async def test_a_replica_is_unavailable(own_redis: Own, unique: str) -> None:
    replica = own_redis(replica_of=own_redis())
    sink = sink_of(replica, unique)

    with pytest.raises(Unavailable):
        await sink.open()
    await sink.close()


async def test_too_few_replicas_for_the_server_are_unavailable(own_redis: Own, unique: str) -> None:
    server = own_redis()
    async with Redis(port=server.port) as client, opened(server, unique) as sink:
        await client.config_set("min-replicas-to-write", "1")
        with pytest.raises(Unavailable, match="Not enough good replicas"):
            await sink.write(make_batch(FIRST))
        assert await client.exists(f"{unique}:shop") == 0


# Durability --------------------------------------------------------------------------------------------------------


async def test_a_batch_counts_when_the_replicas_have_it(own_redis: Own, unique: str) -> None:
    primary = own_redis()
    sink = sink_of(primary, unique, wait_replicas=1, timeout="1s")
    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        await sink.open()
    await sink.close()

    replica = own_redis(replica_of=primary)
    async with Redis(port=replica.port) as reader:
        await until_linked(reader)
        await sink.open()
        await sink.write(make_batch(FIRST))
        assert await reader.xlen(f"{unique}:shop") == 1
        replica.pause()
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            await sink.write(make_batch(FIRST + 1))
        await sink.close()
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            await sink.open()  # the position is beyond the batch, and the batch does not count yet
        await sink.close()
        replica.resume()
        position = await sink.open()
        await sink.close()
        assert position is not None
        assert position.offset == FIRST + 2
        assert await reader.xlen(f"{unique}:shop") == 2


async def test_a_fail_over_takes_log_and_position_back_together(own_redis: Own, unique: str) -> None:
    primary = own_redis()
    replica = own_redis(replica_of=primary)
    batches = [make_batch(FIRST), make_batch(FIRST + 1), make_batch(FIRST + 2)]
    async with Redis(port=replica.port) as reader, FaultProxy("127.0.0.1", primary.port) as link:
        await until_linked(reader)
        await reader.replicaof("127.0.0.1", str(link.port))
        await until_linked(reader)
        async with opened(primary, unique, wait_replicas=1) as sink:
            await sink.write(batches[0])
        link.stall()
        async with opened(primary, unique) as sink:
            await sink.write(batches[1])  # acknowledged, and lost
        primary.kill()
        await reader.replicaof("NO", "ONE")

        sink = sink_of(replica, unique)
        position = await sink.open()
        assert position is not None
        assert position.offset == FIRST + 1
        for batch in batches[1:]:
            await sink.write(batch)
        await sink.close()

        assert await sequences_in(reader, f"{unique}:shop") == [FIRST, FIRST + 1, FIRST + 2]


async def test_a_writer_whose_position_was_rolled_back_writes_nothing(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    async with opened(redis_server, unique) as sink:
        await sink.write(make_batch(FIRST))
        await client.hset(f"{{{unique}:shop}}:oplog-bridge", "offset", str(FIRST))
        with pytest.raises(Unavailable, match="does not begin at the position"):
            await sink.write(make_batch(FIRST + 1))

    assert await sequences_in(client, f"{unique}:shop") == [FIRST]


async def test_killing_the_server_between_and_during_writes_loses_and_doubles_nothing(
    own_redis: Own, unique: str
) -> None:
    server = own_redis(config={"appendfsync": "always"})
    last = FIRST + 30_000
    sink = sink_of(server, unique, timeout="5s")
    offset, kills = FIRST, 0

    async def kill_and_restart() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)

    while offset < last:
        position = await sink.open()
        assert position is None or position.offset >= offset  # what was acknowledged is there
        offset = position.offset if position else offset
        crash = asyncio.create_task(kill_and_restart()) if kills < 4 else None
        try:
            while offset < last:
                await sink.write(make_batch(*range(offset, min(offset + 500, last))))
                offset = min(offset + 500, last)
                if crash is not None and crash.done():
                    break
        except Unavailable:
            pass
        await sink.close()
        if crash is not None:
            await crash
            kills += 1

    async with Redis(port=server.port) as client:
        assert await sequences_in(client, f"{unique}:shop") == list(range(FIRST, last))


async def test_a_late_answer_is_never_read_as_the_next_one(own_redis: Own, unique: str) -> None:
    server = own_redis()
    sink = sink_of(server, unique, timeout="500ms")
    await sink.open()
    server.pause()
    with pytest.raises(Unavailable, match="no answer in time"):
        await sink.write(make_batch(FIRST))
    with pytest.raises(Unavailable, match="open it first"):
        await sink.position()
    server.resume()

    position = await sink.open()
    await sink.write(make_batch(FIRST + 1, from_offset=position.offset if position else FIRST))
    await sink.close()

    async with Redis(port=server.port) as client:
        found = await sequences_in(client, f"{unique}:shop")
        assert found == ([FIRST] if position else []) + [FIRST + 1]


# Streams that others touch -----------------------------------------------------------------------------------------


async def test_a_consumer_group_made_before_the_first_event_is_welcome(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    await client.xgroup_create(f"{unique}:shop", "readers", id="0", mkstream=True)
    async with opened(redis_server, unique) as sink:
        await sink.write(make_batch(FIRST))

    ((_, entries),) = await client.xreadgroup("readers", "one", {f"{unique}:shop": ">"})
    assert [entry for entry, _ in entries] == [f"{FIRST}-0"]


async def test_reading_and_trimming_by_others_is_no_writing(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    async with opened(redis_server, unique) as sink:
        await sink.write(make_batch(FIRST, FIRST + 1))
        await client.xdel(f"{unique}:shop", f"{FIRST + 1}-0")
        await client.xtrim(f"{unique}:shop", maxlen=0)
        await sink.write(make_batch(FIRST + 2))
        await client.delete(f"{unique}:shop")
        await sink.write(make_batch(FIRST + 3))

    assert await sequences_in(client, f"{unique}:shop") == [FIRST + 3]


async def test_the_oldest_entries_are_trimmed(redis_server: RedisServer, client: Redis, unique: str) -> None:
    async with opened(redis_server, unique, max_entries=500) as sink:
        for begin in range(FIRST, FIRST + 3_000, 1_000):
            await sink.write(make_batch(*range(begin, begin + 1_000)))

    found = await sequences_in(client, f"{unique}:shop")
    assert 500 <= len(found) < 1_000
    assert found[-1] == FIRST + 2_999


async def test_a_deleted_hash_stops_the_pipeline_until_a_person_decides(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    sink = sink_of(redis_server, unique)
    await sink.open()
    await sink.write(make_batch(FIRST))
    await client.delete(f"{{{unique}:shop}}:oplog-bridge")

    with pytest.raises(Unavailable, match="is gone"):
        await sink.write(make_batch(FIRST + 1))
    assert await sink.position() is None
    with pytest.raises(Misconfigured, match="no record of a position"):
        await sink.open()
    with pytest.raises(Misconfigured, match="takes only larger ones"):
        await sink.move(FIRST)
    await sink.move(FIRST + 1)
    await sink.write(make_batch(FIRST + 1))
    await sink.close()

    assert await sequences_in(client, f"{unique}:shop") == [FIRST, FIRST + 1]


async def test_a_deleted_stream_can_be_written_from_the_beginning(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    async with opened(redis_server, unique) as sink:
        await sink.write(make_batch(FIRST, FIRST + 1))
        await client.delete(f"{unique}:shop")
        await sink.move(FIRST)
        await sink.write(make_batch(FIRST, FIRST + 1))

    assert await sequences_in(client, f"{unique}:shop") == [FIRST, FIRST + 1]


async def test_a_newer_format_is_refused_by_name(redis_server: RedisServer, client: Redis, unique: str) -> None:
    await client.hset(f"{{{unique}:shop}}:oplog-bridge", "v", "2")
    sink = sink_of(redis_server, unique)
    with pytest.raises(Misconfigured, match="format 2, this version knows 1"):
        await sink.open()
    await sink.close()


async def test_the_heartbeat_notices_a_successor(redis_server: RedisServer, unique: str) -> None:
    async with opened(redis_server, unique) as sink, opened(redis_server, unique):
        with pytest.raises(Fenced):
            await sink.position()


# A stream for each type --------------------------------------------------------------------------------------------


def typed(sequence: int, object_type: str) -> Any:
    return make_event(sequence, object_type=object_type, type=f"oplog.{object_type}.update")


async def test_each_type_has_its_stream_and_all_share_one_position(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    events = [typed(FIRST + n, ("user", "order", "a{b}")[n % 3]) for n in range(9)]
    async with opened(redis_server, unique, stream=f"{unique}:{{type}}") as sink:
        assert sink.destination == f"redis:{unique}:{{type}}"
        await sink.write(Batch(events[:5], FIRST, FIRST + 5))
        await sink.write(Batch(events[5:], FIRST + 5, FIRST + 9))

    for n, name in enumerate(["user", "order", "a%7Bb%7D"]):
        assert await sequences_in(client, f"{unique}:{name}") == [FIRST + n, FIRST + n + 3, FIRST + n + 6]
    assert await client.hget(f"{{{unique}:type}}:oplog-bridge", "offset") == str(FIRST + 9)


async def test_a_foreign_writer_in_one_of_the_streams_stops_before_anything_is_written(
    redis_server: RedisServer, client: Redis, unique: str
) -> None:
    async with opened(redis_server, unique, stream=f"{unique}:{{type}}") as sink:
        await sink.write(make_batch(typed(FIRST, "user")))
        await client.xadd(f"{unique}:order", {"not": "ours"})

        with pytest.raises(Misconfigured, match=f"somebody else writes into {unique}:order"):
            await sink.write(make_batch(typed(FIRST + 1, "user"), typed(FIRST + 2, "order")))
        assert await sequences_in(client, f"{unique}:user") == [FIRST]

        await sink.move(FIRST + 1)  # a person decided: what stands below is taken as it is
        await sink.write(make_batch(typed(FIRST + 1, "user"), typed(FIRST + 2, "order")))

    assert await client.xlen(f"{unique}:order") == 2


async def test_two_pipelines_cannot_share_a_tag(redis_server: RedisServer, unique: str) -> None:
    async with opened(redis_server, unique, stream=f"{{{{{unique}}}}}:a") as sink:
        await sink.write(make_batch(FIRST))
    context = SinkContext(owner="bridge.other", pipeline="other", source="shop", source_id="https://example.com/1")
    other = plugin.build(
        RedisSettings.model_validate({"url": redis_server.url, "stream": f"{{{{{unique}}}}}:b"}), context
    )

    with pytest.raises(Misconfigured, match="a tag of its own"):
        await other.open()
    await other.close()


# Limits ------------------------------------------------------------------------------------------------------------


async def test_a_sequence_of_zero_is_rejected(redis_server: RedisServer, unique: str) -> None:
    async with opened(redis_server, unique) as sink:
        with pytest.raises(Rejected, match="no entry 0"):
            await sink.write(make_batch(0, 1))


@pytest.mark.parametrize("events", [(FIRST + 1, FIRST), (FIRST, FIRST)])
async def test_a_batch_out_of_order_never_reaches_the_script(
    redis_server: RedisServer, client: Redis, unique: str, events: tuple[int, ...]
) -> None:
    async with opened(redis_server, unique) as sink:
        with pytest.raises(ValueError, match="does not ascend"):
            await sink.write(Batch([make_event(event) for event in events], FIRST, FIRST + 2))
    assert await client.exists(f"{unique}:shop") == 0


# Redis Cluster -----------------------------------------------------------------------------------------------------


async def test_a_cluster_is_followed_to_the_node_of_the_slot(own_redis: Own, unique: str) -> None:
    owner, other = own_redis(config={"cluster-enabled": "yes"}), own_redis(config={"cluster-enabled": "yes"})
    async with Redis(port=owner.port) as to_owner, Redis(port=other.port) as to_other:
        await to_owner.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        await to_other.execute_command("CLUSTER MEET", "127.0.0.1", owner.port)
        await until_ok(to_owner)
        await until_ok(to_other)

        async with opened(other, unique) as sink:
            await sink.write(make_batch(FIRST))
        assert await sequences_in(to_owner, f"{unique}:shop") == [FIRST]

        async with opened(owner, unique, stream=f"{unique}:{{type}}") as sink:
            with pytest.raises(Misconfigured, match=r"one constant \{\{tag\}\}"):
                await sink.write(make_batch(typed(FIRST, "user"), typed(FIRST + 1, "order")))
        async with opened(owner, unique, stream=f"{{{{{unique}}}}}:{{type}}") as sink:
            await sink.write(make_batch(typed(FIRST, "user"), typed(FIRST + 1, "order")))
        assert await to_owner.xlen(f"{{{unique}}}:order") == 1


async def test_a_cluster_without_the_slot_is_unavailable(own_redis: Own, unique: str) -> None:
    sink = sink_of(own_redis(config={"cluster-enabled": "yes"}), unique)
    with pytest.raises(Unavailable):
        await sink.open()
    await sink.close()


# Signals -----------------------------------------------------------------------------------------------------------


async def until_linked(replica: Redis) -> None:
    async with asyncio.timeout(20):
        while (await replica.info("replication")).get("master_link_status") != "up":
            await asyncio.sleep(0)


async def until_ok(node: Redis) -> None:
    async with asyncio.timeout(20):
        while (await node.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
            await asyncio.sleep(0)
