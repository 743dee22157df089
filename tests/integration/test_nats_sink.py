"""What only JetStream does: tails that expire, streams that are purged, deleted, full, shared or not made for this."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from nats.js import JetStreamContext

from nats_reader import read_stream, stream_client
from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.sink import SinkContext
from oplogbridge.source.start import Start
from oplogbridge.state import Mark
from oplogbridge.testing import make_batch, make_event
from oplogbridge.values import OFFSET_UNKNOWN, Position
from oplogbridge_sinks.nats import NatsSettings, NatsSink
from places import NatsPlace
from scripted import Gate
from services import NatsServer, free_port
from sink_worlds import SinkWorld, offsets_set
from world import SOURCE_ID, PipelineChoice

CONTEXT = SinkContext("bridge.orders", "orders", "shop", SOURCE_ID)


@pytest.fixture
def nats_place(nats_server: NatsServer, unique: str) -> NatsPlace:
    return NatsPlace(unique, nats_server)


def sink_of(server: NatsServer, name: str, **settings: Any) -> NatsSink:
    common = {"url": server.url, "stream": name, "subject": f"{name}.{{type}}.{{operation}}", "timeout": "5s"}
    return NatsSink(NatsSettings.model_validate(common | {"create": True} | settings), CONTEXT)


async def made(jetstream: JetStreamContext, name: str, **config: Any) -> None:
    await jetstream.add_stream(name=name, subjects=[f"{name}.>"], **{"allow_atomic": True} | config)


# 9: the stream's end expires, or goes ------------------------------------------------------------------------------


async def test_9_a_tail_that_expired_is_told_from_one_that_was_lost(
    nats_server: NatsServer, nats_place: NatsPlace
) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        one = await world.delivered(3)
        await world.drain(one)
        async with stream_client(nats_server.url) as jetstream:
            await jetstream.purge_stream(nats_place.stream)  # as when the last message is older than `max_age`

        two = await world.delivered(2)

        assert await nats_place.sequences() == [4, 5]
        assert two.pipeline().rewinds == 0


async def test_9_a_tail_that_expires_while_the_line_is_idle_is_no_loss(
    nats_server: NatsServer, nats_place: NatsPlace
) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        one = await world.delivered(3)
        async with stream_client(nats_server.url) as jetstream:
            await jetstream.purge_stream(nats_place.stream)

        await world.run(30)  # several heartbeats
        await world.delivered(2, one)

        assert await nats_place.sequences() == [4, 5]
        assert (one.pipeline().rewinds, one.pipeline().state) == (0, "running")


async def test_9_with_the_store_wiped_as_well_a_person_is_asked(nats_server: NatsServer, nats_place: NatsPlace) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        one = await world.delivered(3)
        await world.drain(one)
        async with stream_client(nats_server.url) as jetstream:
            await jetstream.purge_stream(nats_place.stream)
        world.memory.wipe()

        two = world.start()
        said = await world.until_stopped(two)

        assert "offsets set" in said
        assert await nats_place.sequences() == []


async def test_9_what_came_after_the_last_save_and_expired_is_not_known(
    nats_server: NatsServer, nats_place: NatsPlace
) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        one = await world.delivered(3)
        world.source.append(2)
        saving = one.gate.hold("store.save")
        await world.until(lambda: saving.is_reached)
        await world.kill(one)  # two more are there, and the store does not know
        async with stream_client(nats_server.url) as jetstream:
            await jetstream.purge_stream(nats_place.stream)

        two = world.start()
        said = await world.until_stopped(two)

        assert "how far it came is unknown" in said


async def test_a_crash_behind_a_write_is_found_in_the_last_message(nats_place: NatsPlace) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        world.source.append(3)
        one = world.start()
        saving = one.gate.hold("store.save", skip=1)  # the first save is that of the start
        await world.until(lambda: saving.is_reached)
        await world.kill(one)

        two = world.start()
        polling = two.gate.hold("client.poll")
        await world.until(lambda: polling.is_reached)

        assert world.stored() == world.saved(4, mark=4)
        assert await nats_place.sequences() == [1, 2, 3]


async def test_what_offsets_set_skips_lives_in_the_store_beside_what_stands_there(nats_place: NatsPlace) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        one = await world.delivered(3)
        await world.drain(one)
        world.source.append(3)

        await offsets_set(world, Gate(), 6)
        with pytest.raises(Misconfigured, match="replay into another stream"):
            await offsets_set(world, Gate(), 2)
        two = world.start()
        await world.until_saved(two, 7)

        assert await nats_place.sequences() == [1, 2, 3, 6]


async def test_offsets_set_takes_over_the_stream_of_another_source_id(nats_place: NatsPlace) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        await world.drain(await world.delivered(3))
        world.source_id = "https://elsewhere.example.com/api/v4/1"
        world.source.append(2)
        two = world.start()
        said = await world.until_stopped(two)
        assert "offsets set" in said
        await world.drain(two)

        await offsets_set(world, Gate(), 4)
        three = world.start()
        await world.until_saved(three, 6)

        assert await nats_place.sequences() == [1, 2, 3, 4, 5]


async def test_latest_is_kept_by_the_store_until_the_first_event(nats_place: NatsPlace) -> None:
    async with SinkWorld(nats_place, PipelineChoice(start=Start("latest"))) as world:
        world.source.append(3)
        one = world.start()
        await world.until_saved(one, 4)
        await world.kill(one)
        world.source.append(2)

        two = world.start()
        await world.until_saved(two, 6)

        assert await nats_place.sequences() == [4, 5]


# Writers, ours and others ------------------------------------------------------------------------------------------


async def test_a_batch_of_a_predecessor_that_is_committed_late_meets_what_was_written_since(
    nats_server: NatsServer, unique: str
) -> None:
    old, new = sink_of(nats_server, unique), sink_of(nats_server, unique)
    await old.open()
    held: list[bytes] = []
    send = old._wire.send  # type: ignore[union-attr]

    async def hold(request: bytes) -> Any:
        """All but the last message arrives; that one when somebody else has written."""
        most, end = request.rsplit(b"HPUB ", 1)
        old._wire._client._transport.write(most)  # type: ignore[union-attr]
        await asyncio.sleep(0)
        await new.open()
        await new.write(make_batch(1, 2, 3))
        held.append(end)
        return await send(b"HPUB " + end)

    old._wire.send = hold  # type: ignore[union-attr, method-assign]
    with pytest.raises(Unavailable):
        await old.write(make_batch(1, 2, 3, 4))
    for sink in (old, new):
        await sink.close()

    assert held
    assert [one.sequence_of_the_oplog for one in await read_stream(nats_server.url, unique)] == [1, 2, 3]


async def test_an_id_that_the_server_remembers_is_not_a_message_that_is_there(
    nats_server: NatsServer, unique: str
) -> None:
    async with stream_client(nats_server.url) as jetstream:
        await made(jetstream, unique, allow_atomic=False)
        sink = sink_of(nats_server, unique)
        await sink.open()
        await sink.write(make_batch(1))
        await jetstream.purge_stream(unique)

        await sink.close()
        assert await sink.open() == Position(OFFSET_UNKNOWN, SOURCE_ID, sink.destination, "1")
        with pytest.raises(Unavailable, match="duplicate"):
            await sink.write(make_batch(1))
        await sink.close()


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_stream_that_is_deleted_under_an_open_sink_is_not_written_to(
    nats_server: NatsServer, unique: str, atomic: bool
) -> None:
    async with stream_client(nats_server.url) as jetstream:
        await made(jetstream, unique, allow_atomic=atomic)
        sink = sink_of(nats_server, unique, create=False)
        await sink.open()
        await sink.write(make_batch(1))
        await jetstream.delete_stream(unique)

        with pytest.raises(Unavailable, match="open it again"):
            await sink.write(make_batch(2, 3))
        with pytest.raises(Misconfigured, match="create: true"):
            await sink.open()
        await sink.close()


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_stream_that_is_full_pauses_the_line_which_goes_on_in_order(
    nats_server: NatsServer, unique: str, atomic: bool
) -> None:
    async with stream_client(nats_server.url) as jetstream:
        await made(jetstream, unique, allow_atomic=atomic, max_msgs=3, discard="new")
        sink = sink_of(nats_server, unique)
        await sink.open()
        await sink.write(make_batch(1, 2))
        with pytest.raises(Unavailable, match="make room"):
            await sink.write(make_batch(3, 4))

        config = (await jetstream.stream_info(unique)).config
        await jetstream.update_stream(config.evolve(max_msgs=10))
        position = await sink.open()
        assert position is not None
        await sink.write(make_batch(*range(position.offset, 5)))
        await sink.close()

    assert [one.sequence_of_the_oplog for one in await read_stream(nats_server.url, unique)] == [1, 2, 3, 4]


async def test_a_stream_may_have_a_smaller_limit_for_a_message_than_the_server(
    nats_server: NatsServer, unique: str
) -> None:
    async with stream_client(nats_server.url) as jetstream:
        await made(jetstream, unique, max_msg_size=2_000)
        sink = sink_of(nats_server, unique)
        await sink.open()
        with pytest.raises(Rejected):
            await sink.write(make_batch(1, make_event(2, payload=b"x" * 1_900), 3))
        await sink.write(make_batch(3, from_offset=2))
        await sink.close()

    assert [one.sequence_of_the_oplog for one in await read_stream(nats_server.url, unique)] == [1, 3]


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"object_type": "t" * 5_000}, "longer than"),  # the server would end the connection, again and again
        ({"object_type": ""}, "empty token"),
        ({"key": b"k" * 40_000}, "and headers are more than"),
        ({"key": "\xe9".encode() * 7_000}, "and headers are more than"),  # percent-encoded it is three times as long
    ],
)
async def test_an_event_that_can_be_no_message_is_rejected_behind_all_that_came_before_it(
    own_nats: Callable[..., NatsServer], unique: str, atomic: bool, changes: dict[str, Any], why: str
) -> None:
    server = own_nats(config={"max_payload": 64 * 1024})
    async with stream_client(server.url) as jetstream:
        await made(jetstream, unique, allow_atomic=atomic)
    sink = sink_of(server, unique)
    await sink.open()

    with pytest.raises(Rejected, match=why) as rejected:
        await sink.write(make_batch(1, make_event(2, payload=b"x" * 30_000, **changes), 3))
    await sink.write(make_batch(3, from_offset=2))  # the connection lives
    await sink.close()

    assert rejected.value.event.sequence == 2
    assert [one.sequence_of_the_oplog for one in await read_stream(server.url, unique)] == [1, 3]


@pytest.mark.parametrize("atomic", [True, False])
async def test_an_event_that_is_no_subject_of_the_stream_does_not_get_into_another_stream(
    nats_server: NatsServer, unique: str, atomic: bool
) -> None:
    other = f"{unique}-other"
    async with stream_client(nats_server.url) as jetstream:
        await jetstream.add_stream(name=unique, subjects=[f"{unique}.user.*"], allow_atomic=atomic)
        await jetstream.add_stream(name=other, subjects=[f"{unique}.order.*"], allow_atomic=atomic)
        sink = sink_of(nats_server, unique)
        await sink.open()
        await sink.write(make_batch(1, 2))
        for _attempt in range(2):
            with pytest.raises(Misconfigured, match=f"{unique}.order.update of sequence 3 is not: add it"):
                await sink.write(make_batch(make_event(3, object_type="order"), 4))

        config = (await jetstream.stream_info(unique)).config
        await jetstream.delete_stream(other)
        await jetstream.update_stream(config.evolve(subjects=[f"{unique}.*.*"]))
        assert await sink.open() is not None
        await sink.write(make_batch(make_event(3, object_type="order"), 4))
        await sink.close()

    assert [one.sequence_of_the_oplog for one in await read_stream(nats_server.url, unique)] == [1, 2, 3, 4]


async def test_a_stream_into_which_the_server_writes_markers_is_refused(nats_server: NatsServer, unique: str) -> None:
    config = {"name": unique, "subjects": [f"{unique}.>"], "allow_atomic": True, "max_age": 10**9, "storage": "file"}
    markers = {"subject_delete_marker_ttl": 5 * 10**9, "allow_msg_ttl": True, "allow_rollup_hdrs": True}
    async with stream_client(nats_server.url) as jetstream:  # whose own configuration does not have that
        answer = await jetstream._nc.request(f"$JS.API.STREAM.CREATE.{unique}", json.dumps(config | markers).encode())
    assert b"error" not in answer.data, answer.data
    sink = sink_of(nats_server, unique)

    with pytest.raises(Misconfigured, match="subject_delete_marker_ttl"):
        await sink.open()
    await sink.close()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"retention": "workqueue"}, "retention workqueue"),
        ({"retention": "interest"}, "retention interest"),
        ({"no_ack": True}, "no_ack"),
    ],
)
async def test_a_stream_that_cannot_hold_the_promise_is_refused(
    nats_server: NatsServer, unique: str, config: dict[str, Any], named: str
) -> None:
    async with stream_client(nats_server.url) as jetstream:
        await made(jetstream, unique, **{"allow_atomic": False} | config)
        sink = sink_of(nats_server, unique)

        with pytest.raises(Misconfigured, match=named):
            await sink.open()
        await sink.close()


async def test_a_stream_is_made_with_its_limits_and_takes_only_its_own_subjects(
    nats_server: NatsServer, unique: str
) -> None:
    sink = sink_of(nats_server, unique, max_age="7d", max_bytes="10MiB", max_messages=1000, storage="memory")
    await sink.open()
    await sink.write(make_batch(make_event(1, object_type="a.b>c*", operation="up date")))
    await sink.close()

    async with stream_client(nats_server.url) as jetstream:
        config = (await jetstream.stream_info(unique)).config
    assert (config.max_age, config.max_bytes, config.max_msgs) == (7 * 86400, 10 << 20, 1000)
    assert (config.storage, config.subjects, config.retention) == ("memory", [f"{unique}.*.*"], "limits")
    (message,) = await read_stream(nats_server.url, unique)
    assert message.subject == f"{unique}.a%2Eb%3Ec%2A.up%20date"


async def test_an_account_without_jetstream_is_said(own_nats: Callable[..., NatsServer], unique: str) -> None:
    server = own_nats(config={"accounts": {"bare": {"users": [{"user": "bare", "password": "bare"}]}}})
    sink = sink_of(server, unique, url=server.url_for("bare", "bare"))

    with pytest.raises(Misconfigured, match="enable JetStream"):
        await sink.open()
    await sink.close()


async def test_of_several_servers_one_that_is_down_is_passed_over(nats_server: NatsServer, unique: str) -> None:
    url = f"nats://127.0.0.1:{free_port()},{nats_server.url}"
    for attempt in range(6):  # they are tried in any order
        sink = sink_of(nats_server, unique, url=url)
        await sink.open()
        await sink.write(make_batch(attempt + 1))
        await sink.close()

    assert len(await read_stream(nats_server.url, unique)) == 6


async def test_the_largest_message_that_fits_is_written_and_the_next_larger_is_rejected(
    own_nats: Callable[..., NatsServer], unique: str
) -> None:
    server = own_nats(config={"max_payload": 64 * 1024})
    sink = sink_of(server, unique)
    await sink.open()
    taken = offset = 0
    for size in range(64 * 1024 - 1100, 64 * 1024):  # a byte more each time, through the limit
        offset += 1
        try:
            await sink.write(make_batch(make_event(offset, payload=b"x" * size)))
            taken += 1
        except Rejected:
            break
    else:
        pytest.fail("no size was rejected")
    await sink.write(make_batch(make_event(offset + 1, payload=b"{}"), from_offset=offset))  # the connection lives
    await sink.close()
    assert taken > 100


async def test_a_mark_keeps_the_streams_last_sequence(nats_server: NatsServer, nats_place: NatsPlace) -> None:
    async with SinkWorld(nats_place, PipelineChoice()) as world:
        await world.delivered(3)

        text = world.memory.offsets[nats_place.pipeline]
        assert '"proof":"3"' in text
        assert world.stored() is not None
        assert world.stored().mark == Mark(4)  # type: ignore[union-attr]
