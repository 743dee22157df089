"""Other pipelines under a lease that stays: what did not change is not touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from oplogbridge.spec import SourceSpec
from oplogbridge.status import PipelineStatus
from scripted import When
from world import SOURCE, SOURCE_ID, Instance, PipelineChoice, World, shortest_gap

USERS, ORDERS = PipelineChoice("users", types=frozenset({"user"})), PipelineChoice("orders", types=frozenset({"order"}))


def change(one: Instance, wanted: Sequence[tuple[PipelineChoice, str]]) -> None:
    """What a reload does for a source that is the same: pipelines, each with what it is made from."""
    world = one.world
    specs = [replace(one._spec(choice), made_from=made_from) for choice, made_from in wanted]
    for choice, _ in wanted:
        one.status.setdefault(choice.name, PipelineStatus(choice.name, SOURCE, "memory"))
    assert one.runner is not None
    one.runner.change(
        SourceSpec(
            name=SOURCE,
            source_id=SOURCE_ID,
            poll_interval_seconds=world.poll_interval_seconds,
            settle_seconds=0.0,
            make_client=lambda _check: one._client(),
            pipelines=specs,
        ),
        {choice.name: one.status[choice.name] for choice, _ in wanted},
    )


async def running(world: World, *wanted: tuple[PipelineChoice, str]) -> Instance:
    """With entries of both types delivered by those that are wanted."""
    one = world.start()
    await world.run(0)
    change(one, wanted)
    write(world, 2)
    await world.until(lambda: all(one.status[choice.name].caught_up for choice, _ in wanted))
    return one


def write(world: World, count: int) -> None:
    for number in range(count):
        world.source.append(type_="user" if number % 2 == 0 else "order")


async def test_a_pipeline_that_is_the_same_goes_on_while_another_begins_anew() -> None:
    async with World(USERS, ORDERS) as world:
        one = await running(world, (USERS, "a"), (ORDERS, "a"))
        opened, epoch = one.gate.calls.count("sink.open"), one.source_status.epoch

        change(one, [(USERS, "a"), (ORDERS, "b")])
        write(world, 4)
        await world.until(lambda: len(world.at("orders").sequences) == 3 and len(world.at("users").sequences) == 3)

        assert one.gate.calls.count("sink.open") == opened + 1
        assert one.source_status.epoch == epoch
        assert shortest_gap(world.source.poll_times) >= world.poll_interval_seconds
        assert world.at("orders").sequences == [2, 4, 6]


async def test_pipelines_come_and_go_under_one_lease() -> None:
    async with World(USERS) as world:
        one = await running(world, (USERS, "a"))
        epoch = one.source_status.epoch

        change(one, [(USERS, "a"), (ORDERS, "a")])
        await world.until(lambda: world.at("orders").sequences == [2])
        change(one, [(ORDERS, "a")])
        write(world, 2)
        await world.until(lambda: world.at("orders").sequences == [2, 4])
        await world.run(5)

        assert world.at("users").sequences == [1]
        assert (one.source_status.epoch, one.source_status.lease_held) == (epoch, True)
        assert one.open_sinks == 1

        change(one, [(USERS, "a"), (ORDERS, "a")])  # and back again, made from the same
        await world.until(lambda: world.at("users").sequences == [1, 3])


async def test_the_only_pipeline_may_change_and_the_lease_is_not_given_up_for_it() -> None:
    async with World(USERS) as world:
        one = await running(world, (USERS, "a"))
        released = one.gate.calls.count("store.release")

        for made_from in "bcb":  # quicker than it can be drained
            change(one, [(USERS, made_from)])
        write(world, 2)
        await world.until(lambda: world.at("users").sequences == [1, 3])

        assert one.gate.calls.count("store.release") == released


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_write_in_flight_is_finished_and_saved_before_the_pipeline_begins_anew(when: When) -> None:
    async with World(USERS) as world:
        one = await running(world, (USERS, "a"))
        writing = one.gate.hold("sink.write", when)
        write(world, 1)
        await world.until(lambda: writing.is_reached)
        opened = one.gate.calls.count("sink.open")

        change(one, [(USERS, "b")])
        await world.run(5)
        assert one.gate.calls.count("sink.open") == opened
        writing.release()
        write(world, 2)
        await world.until(lambda: world.at("users").sequences == [1, 3, 4])

        assert one.pipeline().retries == 0


async def test_a_reload_while_the_lease_is_queued_for_counts_when_it_comes() -> None:
    async with World(USERS) as world:
        one = await running(world, (USERS, "a"))
        two = world.start()
        await world.run(3)
        change(two, [(ORDERS, "a")])

        one.stop()
        await one.ended()
        write(world, 2)
        await world.until(lambda: world.at("orders").sequences == [2, 4])

        assert world.at("users").sequences == [1]


async def test_the_lease_may_be_lost_in_the_middle_of_a_reload() -> None:
    async with World(USERS, ORDERS) as world:
        one = await running(world, (USERS, "a"), (ORDERS, "a"))
        closing = one.gate.hold("sink.close")
        change(one, [(USERS, "b"), (ORDERS, "a")])
        await world.until(lambda: closing.is_reached)

        world.memory.leases.clear()
        await world.run(world.lease_ttl_seconds)
        closing.release()
        write(world, 2)
        await world.until(lambda: world.at("users").sequences == [1, 3] and world.at("orders").sequences == [2, 4])


async def test_a_stop_in_the_middle_of_a_reload_begins_nothing() -> None:
    async with World(USERS, ORDERS) as world:
        one = await running(world, (USERS, "a"), (ORDERS, "a"))
        closing = one.gate.hold("sink.close")
        change(one, [(USERS, "b"), (ORDERS, "a")])
        await world.until(lambda: closing.is_reached)
        opened = one.gate.calls.count("sink.open")

        one.stop()
        closing.release()
        await one.ended()

        assert one.gate.calls.count("sink.open") == opened
        assert one.open_sinks == 0
        assert not one.source_status.lease_held


async def test_a_pipeline_that_is_alone_keeps_no_pages_for_others() -> None:
    async with World(USERS) as world:
        one = await running(world, (USERS, "a"))
        assert one.runner is not None
        reader = one.runner.reader
        assert reader is not None
        keeps: Callable[[], bool] = lambda: reader._cache.keeps  # noqa: E731

        assert not keeps()
        change(one, [(USERS, "a"), (ORDERS, "a")])
        await world.run(3)
        assert keeps()
        polls = len(world.source.polls)
        await world.run(10)
        assert len(world.source.polls) - polls <= 10
