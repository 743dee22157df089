"""What a sink survives: a destination that is down, cut off or restarted, being cancelled, being left."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext
from oplogbridge.testing.sink_points import needs
from oplogbridge.testing.sink_rig import (
    FIRST,
    SOURCE_ID,
    SinkRig,
    assert_ends_in_a_next_step,
    assert_holds,
    assert_nothing_left,
    chain,
    go_on,
    make_batch,
    offset_of,
    opened,
    position_found_by_a_successor,
    within,
)


class Survives:
    """Points of the contract that break something."""

    async def test_a_destination_that_is_down_is_unavailable_and_works_again(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST), make_batch(FIRST + 1)]
        sink = rig.sink()
        await within(rig, sink.open())
        await within(rig, sink.write(batches[0]))

        async with rig.down():
            with pytest.raises(Unavailable):
                await within(rig, sink.write(batches[1]))
            await within(rig, sink.close())
            with pytest.raises(Unavailable):
                await within(rig, sink.open())
            await within(rig, sink.close())
        await go_on(rig, sink, batches[1:])

        await assert_holds(rig, batches)

    @pytest.mark.parametrize("where", ["request", "reply"])
    async def test_a_write_that_is_cut_off_is_whole_or_not_there(
        self, rig: SinkRig, where: Literal["request", "reply"]
    ) -> None:
        batches = [make_batch(FIRST), make_batch(*range(FIRST + 1, FIRST + 51)), make_batch(FIRST + 51)]
        sink = rig.sink()
        await within(rig, sink.open())
        await within(rig, sink.write(batches[0]))

        async with rig.cut(where):
            with pytest.raises(Unavailable):
                await within(rig, sink.write(batches[1]))
        await within(rig, sink.close())
        await go_on(rig, sink, batches[1:])

        await assert_holds(rig, batches)

    async def test_a_write_can_be_cancelled_anywhere(self, rig: SinkRig) -> None:
        tasks_before, connections_before = asyncio.all_tasks(), await rig.connections()
        batches = [make_batch(FIRST + index, FIRST + index + 1) for index in range(0, 2 * rig.cancel_points_max, 2)]

        for awaits, batch in enumerate(batches):
            sink = rig.sink()
            await within(rig, sink.open())
            if rig.traits.holds_position:
                assert offset_of(await within(rig, sink.position())) in (None, batch.from_offset)
            write = asyncio.ensure_future(sink.write(batch))
            for _ in range(awaits):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait([write])
            await within(rig, sink.close())
            if rig.traits.holds_position:
                await go_on(rig, sink, [batch])

        await assert_nothing_left(rig, tasks_before, connections_before)
        if rig.traits.holds_position:
            await assert_holds(rig, batches)

    @needs("position")
    async def test_a_foreign_writer_is_noticed(self, rig: SinkRig) -> None:

        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))
            await rig.write_foreign()
            with pytest.raises(Misconfigured) as stopped:
                await within(rig, sink.write(make_batch(FIRST + 1)))
            assert_ends_in_a_next_step(stopped.value)

    @needs("position")
    async def test_a_foreign_writer_is_noticed_by_the_next_opener(self, rig: SinkRig) -> None:
        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))
        await rig.write_foreign()
        sink = rig.sink()

        with pytest.raises(Misconfigured):
            await within(rig, sink.open())
        await within(rig, sink.close())

    @needs("position")
    async def test_a_destination_of_another_pipeline_is_left_to_it(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST), make_batch(FIRST + 1)]
        async with opened(rig) as sink:
            await within(rig, sink.write(batches[0]))

        intruder = rig.sink(owner="bridge.payments")
        with pytest.raises(Misconfigured) as stopped:
            await within(rig, intruder.open())
        assert_ends_in_a_next_step(stopped.value)
        with pytest.raises(BridgeError):
            await within(rig, intruder.write(batches[1]))
        await within(rig, intruder.close())
        async with opened(rig) as sink:
            await within(rig, sink.write(batches[1]))

        await assert_holds(rig, batches)

    @needs("position")
    async def test_a_destination_that_somebody_else_filled_is_not_taken(self, rig: SinkRig) -> None:
        await rig.write_foreign()
        before = await rig.read_back()
        sink = rig.sink()

        for _ in range(2):  # a slow retry must not get past it
            with pytest.raises(Misconfigured) as stopped:
                await within(rig, sink.open())
            await within(rig, sink.close())

        assert_ends_in_a_next_step(stopped.value)
        assert await rig.read_back() == before

    @needs("position", "bare offset")
    async def test_a_person_can_decide_about_what_stands_there(self, rig: SinkRig) -> None:
        # `offsets set` moves a sink whose `open` was refused; the pipeline never does
        await rig.write_foreign()
        before = await rig.read_back()
        sink = rig.sink()
        with pytest.raises(Misconfigured):
            await within(rig, sink.open())

        await within(rig, sink.move(FIRST + 90))
        await within(rig, sink.close())
        async with opened(rig) as sink:
            assert offset_of(await within(rig, sink.position())) == FIRST + 90
            batch = make_batch(FIRST + 90)
            await within(rig, sink.write(batch))

        assert await rig.read_back() == [*before, *map(rig.expected, batch.events)]

    @needs("position")
    async def test_lost_writes_show_in_the_position(self, rig: SinkRig) -> None:
        # schedule 7: the heartbeat and every reconnect compare; the sink only has to be honest
        batches = [make_batch(FIRST), make_batch(FIRST + 1), make_batch(FIRST + 2)]

        async with opened(rig) as sink:
            await within(rig, sink.write(batches[0]))
            await within(rig, sink.write(batches[1]))
        await rig.lose_writes()
        assert await position_found_by_a_successor(rig) == batches[1].from_offset
        async with opened(rig) as successor:
            await within(rig, successor.write(batches[1]))
            await within(rig, successor.write(batches[2]))

        await assert_holds(rig, batches)

    # Leaving -------------------------------------------------------------------------------------------------------

    async def test_closing_is_allowed_at_any_time(self, rig: SinkRig) -> None:
        sink = rig.sink()
        await within(rig, sink.close())
        await within(rig, sink.open())
        await within(rig, sink.close())
        await within(rig, sink.close())

        await within(rig, sink.open())  # and it can be opened again
        await within(rig, sink.write(make_batch(FIRST)))
        await within(rig, sink.close())

    async def test_closing_leaves_no_task_and_no_connection(self, rig: SinkRig) -> None:
        tasks_before, connections_before = asyncio.all_tasks(), await rig.connections()

        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))

        await assert_nothing_left(rig, tasks_before, connections_before)

    async def test_a_sink_that_is_not_open_refuses(self, rig: SinkRig) -> None:
        sink = rig.sink()
        with pytest.raises(Unavailable):
            await within(rig, sink.write(make_batch(FIRST)))
        with pytest.raises(Unavailable):
            await within(rig, sink.position())

        await assert_holds(rig, [])

    # What it shows -------------------------------------------------------------------------------------------------

    async def test_nothing_secret_is_shown(self, rig: SinkRig) -> None:
        sink = rig.sink()
        context = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id=SOURCE_ID)
        shown = [repr(sink), sink.destination, repr(rig.settings), str(rig.settings), rig.settings.model_dump_json()]
        shown += rig.plugin.permissions(rig.settings, context)
        if rig.secrets:  # then it is something that one connects to
            async with rig.down():
                with pytest.raises(BridgeError) as failed:
                    await within(rig, sink.open())
                shown += chain(failed.value)
                await within(rig, sink.close())

        for secret in rig.secrets:
            assert not [text for text in shown if secret in text]

    async def test_the_plugin_describes_itself(self, rig: SinkRig) -> None:
        plugin, traits = rig.plugin, rig.traits
        assert plugin.settings.model_config.get("frozen") is True
        assert plugin.settings.model_config.get("extra") == "forbid"
        assert plugin.summary
        assert "\n" not in plugin.summary
        assert traits.events_max >= 1
        assert traits.bytes_max >= 1
        assert traits.pending_max == 1 or not traits.holds_position
        assert rig.sink().destination == rig.sink().destination != ""
