"""Questions beside the pages: within the same pace, behind the pipelines, and never in nobody's hands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.source.turns import BESIDE_EVERY
from reading import setting
from world import shortest_gap


def about(path: str) -> Any:
    return lambda client: client.ask(path)


async def test_with_nobody_else_every_turn_is_for_questions() -> None:
    async with setting() as at:
        at.source.beside["datamodel.json"] = "model"
        asked = [asyncio.create_task(at.reader.ask(about("datamodel.json"))) for _ in range(3)]
        await at.clock.run(3)

        assert [task.result() for task in asked] == ["model"] * 3
        assert shortest_gap(at.source.poll_times) == 1.0


async def test_pipelines_leave_questions_one_turn_in_five() -> None:
    async with setting() as at:
        at.source.beside["x"] = 1
        at.start(0)

        async def ask_and_ask() -> None:
            while True:
                await at.reader.ask(about("x"))

        at.tasks.append(asyncio.create_task(ask_and_ask()))
        await at.clock.run(60)

        assert BESIDE_EVERY == 5
        assert at.source.poll_offsets.count(-2) == 12
        assert at.source.poll_offsets.count(0) == 48
        assert shortest_gap(at.source.poll_times) == 1.0


@pytest.mark.parametrize("error", [Unavailable("busy", retry_after_seconds=7.0), Misconfigured("no")])
async def test_trouble_goes_to_whoever_asked_and_what_the_source_asks_for_is_kept(error: Exception) -> None:
    async with setting() as at:
        at.source.beside["x"] = error
        asked = asyncio.create_task(at.reader.ask(about("x")))
        await at.clock.run(1)
        with pytest.raises(type(error), match=str(error)):
            await asked
        at.start(0)
        await at.clock.run(10)

        waited = 7.0 if isinstance(error, Unavailable) else 1.0
        assert at.source.poll_times[1] - at.source.poll_times[0] == waited


async def test_a_defect_in_a_question_is_told_and_the_pages_go_on() -> None:
    async with setting() as at:
        asked = asyncio.create_task(at.reader.ask(about("not there")))
        await at.clock.run(1)
        with pytest.raises(Misconfigured, match="please report it"):
            await asked
        at.start(0)
        await at.clock.run(5)

        assert at.source.poll_offsets.count(0) == 5


async def test_a_question_that_nobody_waits_for_is_not_asked() -> None:
    async with setting() as at:
        at.source.beside["x"] = 1
        asked = asyncio.create_task(at.reader.ask(about("x")))
        await at.clock.run(0.5)
        asked.cancel()
        await at.clock.run(5)

        assert at.source.polls == []


async def test_at_the_end_of_the_reader_nobody_is_left_waiting() -> None:
    async with setting(valid_for=0.5) as at:
        asked = [asyncio.create_task(at.reader.ask(about("x"))) for _ in range(2)]
        await at.clock.run(5)
        for task in asked:
            with pytest.raises(Fenced):
                await task
        with pytest.raises(Fenced):
            await at.reader.ask(about("x"))

        assert at.source.polls == []


async def test_a_reader_that_is_cancelled_in_the_middle_of_a_question_says_so() -> None:
    async with setting() as at:
        began, for_ever = asyncio.Event(), asyncio.Event()

        async def question(_: object) -> None:
            began.set()
            await for_ever.wait()

        asked = asyncio.create_task(at.reader.ask(question))
        await at.clock.run(1)
        assert began.is_set()
        at.running.cancel()
        with pytest.raises(Fenced, match="not read by this process any more"):
            await asked
