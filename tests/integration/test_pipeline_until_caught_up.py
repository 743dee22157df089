"""`--until-caught-up`: every pipeline got a good answer that nothing follows, and all of it is durable."""

from __future__ import annotations

import asyncio

import pytest

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.testing import MemorySettings
from pages import page, strings
from world import PipelineChoice, World


async def ended(world: World, seconds: float = 600.0) -> None:
    """Let time pass until the instance ends by itself."""
    (one,) = world.instances
    await world.until(lambda: one.task is not None and one.task.done(), seconds_max=seconds)
    assert one.task is not None
    assert one.task.exception() is None


async def test_it_ends_when_all_is_durable_and_saved_and_the_lease_is_released() -> None:
    async with World() as world:
        world.source.append(10)
        one = world.start(until_caught_up=True)

        await ended(world)

        assert world.sequences == world.source.sequences
        stored = world.stored()
        assert stored is not None
        assert stored.offset == 11
        assert one.pipeline().state == "finished"
        assert world.memory.leases == {}
        assert one.open_sinks == 0


async def test_an_empty_source_is_caught_up_with() -> None:
    async with World() as world:
        one = world.start(until_caught_up=True)

        await ended(world)

        assert (len(world.source.polls), one.pipeline().state) == (1, "finished")


async def test_every_pipeline_catches_up_also_one_that_delivers_nothing() -> None:
    nothing = PipelineChoice("nothing", types=frozenset({"order"}))
    async with World(PipelineChoice("all"), nothing) as world:
        world.source.append(10)
        one = world.start(until_caught_up=True)

        await ended(world)

        assert world.at("all").sequences == world.source.sequences
        assert world.stored("nothing") is not None
        assert [status.state for status in one.status.values()] == ["finished", "finished"]


async def test_faults_on_the_way_are_waited_out() -> None:
    async with World() as world:
        world.source.append(10)
        world.source.answers += [Unavailable("503"), None, b"<html>", Unavailable("429", retry_after_seconds=5)]
        world.at().refuse(2)
        world.at().lose_replies(1)
        one = world.start(until_caught_up=True)
        one.gate.fail("store.save", "after", times=2)
        one.gate.fail("store.acquire", times=3)

        await ended(world)

        assert world.sequences == world.source.sequences


async def test_a_failed_poll_is_no_end() -> None:
    async with World() as world:
        world.source.append(1)
        world.source.answers += [Unavailable("down")] * 5
        world.start(until_caught_up=True)

        await ended(world)

        assert world.sequences == [1]


async def test_a_page_that_says_more_is_no_end_even_if_it_is_empty() -> None:
    async with World() as world:
        world.source.append(1)
        world.source.answers += [page(has_more=True, next_request_start="0"), page(has_more=True)]
        world.start(until_caught_up=True)

        await ended(world)

        assert world.sequences == [1]


async def test_a_short_page_of_an_older_source_is_no_end_and_an_empty_one_is() -> None:
    async with World() as world:
        older = [strings(1), strings(2), strings()]
        world.source.answers += [body.replace(b',"has_more":false', b"") for body in older]
        world.start(until_caught_up=True)

        await ended(world)

        assert world.sequences == [1, 2]


async def test_entries_that_are_too_young_are_waited_for() -> None:
    body = b'"operation":"update","object":{"id":"1","type":"user","updated_at":"2026-11-18T12:00:00Z"}'
    async with World(settle_seconds=30) as world:
        world.clock.unix_seconds = 1_795_003_200.0 + 5  # type: ignore[attr-defined]  # 5 s after it was written
        world.source.append(1)
        world.source.append(1, body=body)
        began_at = world.clock.monotonic()
        world.start(until_caught_up=True)

        await ended(world)

        assert world.sequences == [1, 2]
        assert 26 <= world.clock.monotonic() - began_at < 30  # a whole second says no more than that


async def test_a_pipeline_that_stopped_ends_without_a_slow_retry_and_the_others_catch_up() -> None:
    async with World(PipelineChoice("broken"), PipelineChoice("sound")) as world:
        world.source.append(10)
        world.at("broken").reject(4)
        one = world.start(until_caught_up=True)

        await ended(world)

        assert (one.pipeline("broken").state, one.pipeline("sound").state) == ("stopped", "finished")
        assert world.at("broken").sequences == [1, 2, 3]
        assert world.at("sound").sequences == world.source.sequences


async def test_a_source_that_refuses_ends_it_as_stopped() -> None:
    async with World() as world:
        world.source.answers.append(Misconfigured("401: check `auth`"))
        one = world.start(until_caught_up=True)

        await ended(world)

        assert (one.pipeline().state, one.pipeline().error) == ("stopped", "401: check `auth`")


@pytest.mark.parametrize("settings", [None, MemorySettings(holds_position=False)])
async def test_without_the_lease_it_waits(settings: MemorySettings | None) -> None:
    async with World(PipelineChoice(settings=settings)) as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: one.source_status.lease_held)
        two = world.start(until_caught_up=True)
        await world.run(60)
        assert two.task is not None
        assert not two.task.done()

        one.stop()
        await world.until(lambda: two.task is not None and two.task.done())

        assert world.sequences == [1, 2, 3]


async def test_stop_ends_it_early() -> None:
    async with World() as world:
        world.source.append(10)
        one = world.start(until_caught_up=True)
        hold = one.gate.hold("client.poll")
        await world.until(lambda: hold.is_reached)

        one.stop()
        await asyncio.wait_for(one.ended(), 5)

        assert world.sequences == []
