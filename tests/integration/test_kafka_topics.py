"""Topics that are missing, wrong, made again or grown, and topics that appear as types do."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from kafka_reader import add_partitions, admin, delete_topic, make_topic, write_record
from kafka_world import World
from oplogbridge import Misconfigured, Rejected, Unavailable
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge_sinks.kafka.producer import Producer
from services import KafkaServer


@pytest.fixture
def world(kafka_server: KafkaServer, unique: str) -> World:
    return World(kafka_server.bootstrap_servers, unique)


# Missing -----------------------------------------------------------------------------------------------------------


async def test_missing_topics_are_named_with_the_command_that_makes_them(world: World) -> None:
    said = await world.refused()
    assert f"kafka-topics.sh --bootstrap-server {world.servers} --create --topic {world.checkpoint}" in said
    assert "--partitions 1 --config cleanup.policy=compact" in said
    assert "`create: true`" in said

    await make_topic(world.servers, world.checkpoint, 1, {"cleanup.policy": "compact"})
    said = await world.refused(partitions=4)
    assert re.search(rf"--create --topic {re.escape(world.topic)} --partitions 4`", said)

    await make_topic(world.servers, world.topic, 2)
    async with world.opened() as sink:
        await sink.write(make_batch(FIRST))
    assert await world.sequences() == [FIRST]


async def test_create_makes_what_is_missing_as_told(world: World) -> None:
    async with world.opened(create=True, partitions=3, replication_factor=1):
        pass

    async with admin(world.servers) as client:
        described = await client.describe_topics([world.topic, world.checkpoint])
    assert {topic["topic"]: len(topic["partitions"]) for topic in described} == {world.topic: 3, world.checkpoint: 1}


async def test_create_leaves_an_existing_topic_as_it_is(world: World) -> None:
    await make_topic(world.servers, world.topic, 2)
    async with world.opened(create=True, partitions=8) as sink:
        await sink.write(make_batch(FIRST))

    async with admin(world.servers) as client:
        (described,) = await client.describe_topics([world.topic])
    assert len(described["partitions"]) == 2


async def test_a_replication_factor_that_the_cluster_cannot_have_needs_a_person(world: World) -> None:
    assert "replication" in (await world.refused(create=True, replication_factor=3)).lower()


# The checkpoint's topic --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
async def test_a_checkpoint_that_would_expire_is_refused(world: World, policy: str) -> None:
    await make_topic(world.servers, world.checkpoint, 1, {"cleanup.policy": policy})
    said = await world.refused(create=True)
    assert "kafka-configs.sh" in said
    assert f"cleanup.policy={policy}" in said


async def test_a_checkpoint_of_two_partitions_is_refused(world: World) -> None:
    await make_topic(world.servers, world.checkpoint, 2, {"cleanup.policy": "compact"})
    assert "must have one" in await world.refused(create=True)


async def test_a_checkpoint_of_a_newer_version_is_refused_by_name(world: World) -> None:
    async with world.opened(create=True):
        pass
    await write_record(world.servers, world.checkpoint, world.owner.encode(), b'{"v":2}')
    assert "format version 2" in await world.refused()


async def test_an_erased_checkpoint_is_no_position(world: World) -> None:
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(FIRST))
    await write_record(world.servers, world.checkpoint, world.owner.encode(), None)

    async with world.opened() as sink:
        assert await sink.position() is None


async def test_a_long_log_of_checkpoints_is_read_from_its_end(world: World) -> None:
    async with world.opened(create=True) as sink:
        for sequence in range(FIRST, FIRST + 100):
            await sink.write(make_batch(sequence))
    async with world.opened() as sink:
        position = await sink.position()
        assert position is not None
        assert position.offset == FIRST + 100


# Made again, or grown ----------------------------------------------------------------------------------------------


async def test_a_topic_that_was_made_again_stops_the_pipeline_until_a_person_decides(world: World) -> None:
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(FIRST, FIRST + 1))
    await delete_topic(world.servers, world.topic)
    assert f"topic {world.topic} is gone" in await world.refused(create=True)  # and is not made in silence
    await make_topic(world.servers, world.topic, 1)
    assert "deleted and made again" in await world.refused(create=True)

    sink = world.sink()
    with pytest.raises(Misconfigured, match="offsets set"):
        await sink.open()
    with pytest.raises(Misconfigured):
        await sink.write(make_batch(FIRST + 2))
    await sink.move(FIRST + 1)  # `offsets set`
    await sink.close()
    async with world.opened() as sink:
        await sink.write(make_batch(FIRST + 1))

    assert await world.sequences() == [FIRST + 1]


async def test_a_changed_number_of_partitions_stops_the_pipeline_until_a_person_decides(world: World) -> None:
    async with world.opened(create=True, partitions=2) as sink:
        await sink.write(make_batch(FIRST))
    await add_partitions(world.servers, world.topic, 3)
    assert "had 2 partitions and now has 3" in await world.refused()

    sink = world.sink()
    with pytest.raises(Misconfigured):
        await sink.open()
    await sink.move(FIRST + 1)
    await sink.write(make_batch(FIRST + 1))
    await sink.close()

    assert sorted(await world.sequences()) == [FIRST, FIRST + 1]


async def test_the_heartbeat_notices_a_topic_that_was_made_again(world: World) -> None:
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(FIRST))
        await delete_topic(world.servers, world.topic)
        await make_topic(world.servers, world.topic, 1)
        with pytest.raises(Misconfigured, match="made again"):
            await sink.position()


async def test_a_topic_made_again_under_an_open_sink_takes_nothing(world: World) -> None:
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(FIRST))
        await delete_topic(world.servers, world.topic)
        await make_topic(world.servers, world.topic, 1)
        with pytest.raises(Unavailable):
            await sink.write(make_batch(FIRST + 1))

    assert "made again" in await world.refused()
    assert await world.sequences() == []


async def test_a_lost_checkpoint_topic_is_no_position(world: World) -> None:
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(FIRST))
    await delete_topic(world.servers, world.checkpoint)

    async with world.opened(create=True) as sink:
        assert await sink.position() is None


# Topics that appear as types do ------------------------------------------------------------------------------------


def _of(sequence: int, object_type: str) -> Any:
    return make_event(sequence, object_type=object_type)


async def test_topics_appear_as_types_do(world: World) -> None:
    template = f"{world.name}.{{type}}"
    async with world.opened(create=True, topic=template) as sink:
        await sink.write(make_batch(_of(FIRST, "user"), _of(FIRST + 1, "order line"), _of(FIRST + 2, "user")))
        await sink.write(make_batch(_of(FIRST + 3, "invoice")))
    async with world.opened(topic=template) as sink:  # none is made any more, and none has to be
        await sink.write(make_batch(_of(FIRST + 4, "user"), _of(FIRST + 5, "order line")))

    assert await world.sequences(f"{world.name}.user") == [FIRST, FIRST + 2, FIRST + 4]
    assert await world.sequences(f"{world.name}.order_20line") == [FIRST + 1, FIRST + 5]
    assert await world.sequences(f"{world.name}.invoice") == [FIRST + 3]


async def test_a_page_of_several_topics_is_seen_in_all_of_them_or_in_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = make_batch(_of(FIRST, "user"), _of(FIRST + 1, "order"), _of(FIRST + 2, "user"))
    sink = world.sink(create=True, topic=world.by_type)
    await sink.open()
    at_the_commit = asyncio.Event()

    async def commit(_: Producer) -> None:
        at_the_commit.set()
        await asyncio.Event().wait()  # by now all records stand in the logs

    with monkeypatch.context() as patched:
        patched.setattr(Producer, "commit", commit)
        write = asyncio.create_task(sink.write(page))
        await at_the_commit.wait()
        write.cancel()
        await asyncio.wait([write])
        await sink.close()
    topics = [f"{world.name}.order", f"{world.name}.user"]
    assert await world.topics() == topics

    async with world.opened(topic=world.by_type) as sink:
        assert await sink.position() is None  # and opening has ended the transaction
        assert [await world.sequences(topic) for topic in topics] == [[], []]
        await sink.write(page)
    assert [await world.sequences(topic) for topic in topics] == [[FIRST + 1], [FIRST, FIRST + 2]]


async def test_a_missing_topic_of_a_new_type_is_named(world: World) -> None:
    await make_topic(world.servers, world.checkpoint, 1, {"cleanup.policy": "compact"})
    async with world.opened(topic=f"{world.name}.{{type}}") as sink:
        with pytest.raises(Misconfigured, match=f"{world.name}.user does not exist"):
            await sink.write(make_batch(FIRST))


async def test_one_of_many_topics_that_was_made_again_is_named(world: World) -> None:
    template = f"{world.name}.{{type}}"
    async with world.opened(create=True, topic=template) as sink:
        await sink.write(make_batch(_of(FIRST, "user"), _of(FIRST + 1, "order")))
    await delete_topic(world.servers, f"{world.name}.order")

    said = await world.refused(create=True, topic=template)
    assert f"topic {world.name}.order is gone" in said
    assert f"{world.name}.user" not in said


async def test_a_type_that_makes_no_topic_name_is_rejected(world: World) -> None:
    endless = _of(FIRST + 1, "x" * 250)
    async with world.opened(create=True, topic=f"{world.name}.{{type}}") as sink:
        with pytest.raises(Rejected) as rejected:
            await sink.write(make_batch(_of(FIRST, "user"), endless, _of(FIRST + 2, "user")))
        assert rejected.value.event is endless
        await sink.write(make_batch(_of(FIRST + 2, "user"), from_offset=FIRST + 1))

    assert await world.sequences(f"{world.name}.user") == [FIRST, FIRST + 2]


async def test_a_pipeline_that_is_sent_elsewhere_forgets_the_topics_of_before(world: World) -> None:
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(FIRST))
    elsewhere = f"{world.name}.elsewhere"
    async with world.opened(create=True, topic=elsewhere) as sink:
        position = await sink.position()
        assert position is not None
        assert position.destination == f"kafka:{world.topic}"  # the pipeline stops here, until a person decides
        moved = await sink.move(FIRST + 1)
        assert moved is not None
        assert moved.destination == f"kafka:{elsewhere}"
    await delete_topic(world.servers, world.topic)

    async with world.opened(topic=elsewhere) as sink:
        await sink.write(make_batch(FIRST + 1))
    assert await world.sequences(elsewhere) == [FIRST + 1]
