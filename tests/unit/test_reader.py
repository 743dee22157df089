"""The reader owns the pace: one poll at a time, never two within the interval, whatever happens around it."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from pages import strings
from reading import Setting, setting
from world import shortest_gap


async def test_the_first_poll_waits_a_whole_interval() -> None:
    async with setting(interval=2.5) as at:
        at.start(0)
        await at.clock.run(10)

        assert at.source.poll_times[0] == at.began_at + 2.5


async def test_nobody_asks_nobody_polls() -> None:
    async with setting() as at:
        await at.clock.run(100)

        assert at.source.polls == []


async def test_polls_are_an_interval_apart_and_no_further() -> None:
    async with setting() as at:
        at.start(0)
        await at.clock.run(60)

        assert shortest_gap(at.source.poll_times) == 1.0
        assert len(at.source.polls) == 60


async def test_the_interval_runs_from_the_end_of_a_poll() -> None:
    async with setting() as at:
        slow = asyncio.Event()
        real = at.source.answer

        async def answer(offset: int) -> bytes:
            body = await real(offset)
            await slow.wait()
            return body

        at.source.answer = answer  # type: ignore[method-assign]
        at.start(0)
        await at.clock.run(5)
        slow.set()
        await at.clock.run(0)
        ended_at = at.clock.monotonic()
        await at.clock.run(5)

        assert at.source.poll_times[1] == ended_at + 1.0


@pytest.mark.parametrize("followers", [[0, 0, 0], [0, 5, 9], [0, 100]])
async def test_however_many_ask_there_is_one_poll_an_interval(followers: list[int]) -> None:
    async with setting() as at:
        at.source.append(30)
        at.start(*followers)
        await at.clock.run(60)

        assert shortest_gap(at.source.poll_times) >= 1.0
        assert at.source.in_flight_most == 1


async def test_faults_do_not_hasten_the_next_poll() -> None:
    async with setting() as at:
        for error in (Unavailable("x"), Misconfigured("y"), RuntimeError("z"), Unavailable("r", retry_after_seconds=0)):
            at.source.answers.append(error)
        asking = [asyncio.create_task(at.reader.page(0)) for _ in range(2)]
        await at.clock.run(3)
        at.start(0)
        await at.clock.run(60)

        assert shortest_gap(at.source.poll_times) >= 1.0
        assert all(isinstance(task.exception(), Misconfigured) for task in asking)


async def test_retry_after_is_waited_for() -> None:
    async with setting() as at:
        at.source.answers.append(Unavailable("429", retry_after_seconds=17))
        at.start(0)
        await at.clock.run(60)

        assert at.source.poll_times[1] - at.source.poll_times[0] == 17


async def test_an_outage_is_asked_about_ever_less_often_and_recovers_at_once() -> None:
    async with setting() as at:
        at.source.answers += [Unavailable("down")] * 10
        at.start(0)
        await at.clock.run(600)
        gaps = [later - earlier for earlier, later in zip(at.source.poll_times, at.source.poll_times[1:], strict=False)]

        assert gaps[:10] == sorted(gaps[:10])
        assert max(gaps) == 30.0
        assert gaps[10:20] == [1.0] * 10
        assert at.status.poll_failures == 10
        assert at.status.error is None


async def test_askers_that_come_and_go_do_not_hasten_the_next_poll() -> None:
    async with setting() as at:
        for _ in range(40):
            asking = asyncio.create_task(at.reader.page(0))
            await at.clock.run(0.3)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

        assert shortest_gap(at.source.poll_times) >= 1.0
        assert at.reader._wanted == {}


async def test_an_asker_that_is_gone_is_not_polled_for() -> None:
    async with setting() as at:
        asking = asyncio.create_task(at.reader.page(0))
        await at.clock.run(0.5)
        asking.cancel()
        await at.clock.run(10)

        assert at.source.polls == []


async def test_the_lease_is_checked_in_the_instant_before_a_poll() -> None:
    at = Setting(valid_for=5.0)
    running = asyncio.create_task(at.reader.run())
    at.start(0)
    await at.clock.run(20)

    assert isinstance(running.exception(), Fenced)
    assert max(at.source.poll_times) < at.began_at + 5.0
    assert [type(task.exception()) for task in at.tasks] == [Fenced]


async def test_a_refusal_that_comes_in_the_moment_in_which_its_asker_goes_is_no_unseen_error() -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    async with setting() as at:
        at.source.answers.append(Misconfigured("no"))
        asking = [asyncio.create_task(at.reader.page(0))]
        await at.clock.sleeping(1)
        waiting = [at.reader._wanted[0][0]]
        waiting[0].add_done_callback(lambda _: asking[0].cancel())
        await at.clock.run(2)
        assert waiting[0].done()
        assert asking[0].cancelled() or asking[0].exception() is not None
        waiting.clear()
        asking.clear()
        gc.collect()

    assert seen == []


async def test_a_refused_page_is_told_to_each_asker_with_an_error_of_its_own() -> None:
    async with setting() as at:
        at.source.answers.append(Misconfigured("no"))
        asking = [asyncio.create_task(at.reader.page(0)) for _ in range(2)]
        await at.clock.run(1)

        errors = [task.exception() for task in asking]
        assert [str(error) for error in errors] == ["no", "no"]
        assert errors[0] is not errors[1]


async def test_the_live_end_is_at_most_two_turns_away() -> None:
    async with setting() as at:
        at.source.append(100)
        at.start(0, 10, 20, 101)
        await at.clock.run(40)

        live = [index for index, offset in enumerate(at.source.poll_offsets) if offset == 101]
        assert max(later - earlier for earlier, later in itertools.pairwise(live)) <= 2
        assert {offset for offset in at.source.poll_offsets if offset < 10} >= {0, 4, 7}


async def test_the_tail_is_asked_for_in_its_turn_and_within_the_pace() -> None:
    async with setting() as at:
        at.source.append(3)
        at.start(0)
        tail = asyncio.create_task(at.reader.tail())
        await at.clock.run(5)

        assert [entry.sequence for entry in (await tail).entries] == [1, 2, 3]
        assert shortest_gap(at.source.poll_times) >= 1.0


async def test_what_was_read_and_dropped_is_counted() -> None:
    async with setting() as at:
        at.source.answers.append(strings(1, 9, 7))
        page = asyncio.create_task(at.reader.page(5))
        await at.clock.run(1)

        assert [entry.sequence for entry in (await page).entries] == [7, 9]
        assert (at.status.entries_read, at.status.entries_dropped, at.status.pages_reordered) == (2, 1, 1)


async def test_another_data_model_is_counted_and_the_first_is_none() -> None:
    async with setting() as at:
        hashes = ["d9", "d9", "e0", None, "e0", "d9"]
        for hash_ in hashes:
            told = "" if hash_ is None else f',"datamodel_hash":"{hash_}"'
            at.source.answers.append(b'{"entries":[],"has_more":false%b}' % told.encode())
        counts = []
        for _ in hashes:
            page = asyncio.create_task(at.reader.page(5))
            await at.clock.run(1)
            await page
            counts.append(at.status.datamodel_changes)

        assert counts == [0, 0, 1, 1, 1, 2]


async def test_a_lease_that_is_lost_between_connecting_and_sending_is_told_as_such() -> None:
    async with setting() as at:
        at.source.answers.append(Fenced("the lease of source shop ran out"))
        asking = asyncio.create_task(at.reader.page(0))
        at.tasks.append(asking)
        await at.clock.run(3)

        with pytest.raises(Fenced):
            await asking
        assert at.status.error is None
