"""The lease of a source: who holds it, how it is lost, given up and taken again, and what ends with it."""

from __future__ import annotations

import asyncio

import pytest

from oplogbridge.errors import Fenced, Unavailable
from world import Instance, PipelineChoice, World, shortest_gap


def _cut_off_from_the_lease(instance: Instance) -> None:
    """It reaches its state store no more."""
    instance.gate.fail("store.renew", times=10**6)
    instance.gate.fail("store.acquire", times=10**6)


async def test_a_fenced_sink_gives_the_lease_up_and_queues_again() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        await world.until(lambda: world.sequences == [1])

        world.at().take()  # somebody else opens the destination
        world.source.append(1)
        await world.until(lambda: "store.release" in one.gate.calls)
        assert one.source_status.lease_held is False
        await world.until(lambda: world.sequences == [1, 2])

        assert one.gate.calls.count("store.acquire") == 2


async def test_two_bridges_that_fence_each_other_do_it_ever_more_slowly() -> None:
    async with World() as world:
        one = world.start()
        await world.until(lambda: one.pipeline().state == "running")
        acquired = []
        for _ in range(5):
            world.at().take()
            world.source.append(1)
            before = world.clock.monotonic()
            count = one.gate.calls.count("store.acquire")
            await world.until(lambda count=count: one.gate.calls.count("store.acquire") > count)
            acquired.append(world.clock.monotonic() - before)

        assert acquired[-1] > 2 * acquired[0]


@pytest.mark.parametrize("where", ["client.poll", "sink.write", "sink.open", "store.load", "store.save"])
async def test_a_lease_that_is_lost_ends_everything_that_belongs_to_it(where: str) -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        hold = one.gate.hold(where)
        await world.until(lambda: hold.is_reached)

        _cut_off_from_the_lease(one)
        await world.run(world.lease_ttl_seconds + 1)

        assert one.open_sinks == 0
        assert all(client.closed for client in one.clients)
        assert one.source_status.lease_held is False


async def test_the_lease_is_lost_a_ttl_after_its_last_good_renewal_was_sent() -> None:
    async with World() as world:
        one = world.start()
        await world.until(lambda: one.pipeline().state == "running")
        slow = one.gate.hold("store.renew", "after")  # the store has renewed it, the answer takes a while
        await world.until(lambda: slow.is_reached)
        sent_at = world.clock.monotonic()
        await world.run(2.0)
        slow.release()
        _cut_off_from_the_lease(one)

        await world.run(30)

        last = world.source.poll_times[-1]
        assert sent_at + world.lease_ttl_seconds - 1 <= last < sent_at + world.lease_ttl_seconds


async def test_a_lease_counts_from_when_it_was_asked_for_and_not_from_the_answer() -> None:
    async with World() as world:
        one = world.start()
        slow = one.gate.hold("store.acquire", "after")
        await world.until(lambda: slow.is_reached)
        asked_at = world.clock.monotonic()
        await world.run(8)
        slow.release()
        one.gate.fail("store.renew", times=10**6)
        await world.run(0)
        assert one.runner is not None
        assert one.runner.lease is not None

        assert one.runner.lease.valid_until == asked_at + world.lease_ttl_seconds


async def test_a_successor_takes_over_within_a_ttl_of_the_end() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        world.start()
        await world.run(5)
        one.kill()
        killed_at = world.clock.monotonic()

        world.source.append(3)
        await world.until(lambda: len(world.sequences) == 6)

        assert world.clock.monotonic() - killed_at <= 2 * world.lease_ttl_seconds + 2
        assert world.sequences == world.source.sequences


async def test_a_new_holder_waits_a_whole_interval_before_its_first_poll() -> None:
    async with World() as world:
        one = world.start()
        await world.until(lambda: len(world.source.polls) >= 2)
        one.stop()
        await one.ended()
        ended_at = world.clock.monotonic()
        last = world.source.poll_times[-1]

        two = world.start()
        await world.until(lambda: world.source.poll_times[-1] > last)

        assert two.source_status.lease_held
        assert world.source.poll_times[-1] - ended_at >= world.poll_interval_seconds


async def test_an_instance_that_wakes_after_its_lease_was_taken_neither_polls_nor_writes() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        one.gate.hold("client.poll", skip=1)
        asleep = [one.gate.hold(call) for call in ("sink.write", "store.renew")]  # as by SIGSTOP
        await world.until(lambda: asleep[0].is_reached)
        two = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        writes = len(world.at().writes)

        for hold in asleep:
            hold.release()
        await world.run(5)

        assert two.source_status.lease_held
        assert len(world.at().writes) == writes
        assert shortest_gap(world.source.poll_times) >= world.poll_interval_seconds


async def test_while_the_state_store_is_down_nobody_polls_or_writes() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        for call in ("renew", "acquire", "load", "save", "release", "holder"):
            one.gate.fail(f"store.{call}", times=10**6)
        await world.run(world.lease_ttl_seconds + 1)
        world.source.append(3)
        polls, writes = len(world.source.polls), len(world.at().writes)

        await world.run(120)
        assert (len(world.source.polls), len(world.at().writes)) == (polls, writes)

        one.gate.failures.clear()
        await world.until(lambda: len(world.sequences) == 6)
        assert world.sequences == world.source.sequences


async def test_an_error_of_ours_in_one_pipeline_does_not_stop_its_neighbour() -> None:
    async with World(PipelineChoice("broken"), PipelineChoice("sound")) as world:
        world.source.append(3)
        one = world.start()
        one.gate.fail("sink.open", error=RuntimeError("a defect"))  # the first to open is `broken`

        await world.until(lambda: len(world.at("sound").sequences) == 3)

        assert one.pipeline("broken").state == "stopped"
        assert "please report" in (one.pipeline("broken").error or "")
        await world.until(lambda: len(world.at("broken").sequences) == 3)


async def test_an_error_of_ours_in_the_reader_stops_whoever_wanted_that_page() -> None:
    async with World() as world:
        world.source.append(3)
        world.source.answers.append(RuntimeError("a defect"))
        one = world.start()

        await world.until(lambda: one.pipeline().state == "stopped")
        assert "please report" in (one.pipeline().error or "")
        await world.until(lambda: len(world.sequences) == 3)


async def test_whoever_waits_for_a_page_is_told_when_the_lease_is_lost() -> None:
    async with World() as world:
        one = world.start()
        await world.until(lambda: one.pipeline().state == "running")
        assert one.runner is not None
        assert one.runner.reader is not None
        reader = one.runner.reader
        hold = one.gate.hold("client.poll")
        await world.until(lambda: hold.is_reached)
        asking = asyncio.create_task(reader.page(10**6))  # as `tail` does through the admin address
        one.gate.fail("store.renew", times=10**6)
        await world.run(world.lease_ttl_seconds + 1)

        with pytest.raises(Fenced, match="not read by this process"):
            await asking
        with pytest.raises(Fenced):
            await reader.page(5)


async def test_stop_while_the_lease_is_released_ends_the_runner_at_once() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        await world.until(lambda: world.sequences == [1])
        releasing = one.gate.hold("store.release")
        world.at().take()
        world.source.append(1)
        await world.until(lambda: releasing.is_reached)

        one.stop()
        releasing.release()
        await asyncio.wait_for(one.ended(), 5)

        assert one.task is not None
        assert one.task.exception() is None


async def test_a_lease_that_cannot_be_released_expires_and_nothing_fails() -> None:
    async with World() as world:
        one = world.start()
        await world.until(lambda: one.pipeline().state == "running")
        one.gate.fail("store.release", error=Unavailable("gone"))

        one.stop()
        await one.ended()

        assert one.task is not None
        assert one.task.exception() is None
