"""Pipelines that want the same entries share a poll; what is shared is no older than it may be."""

from __future__ import annotations

import asyncio

from reading import setting
from scripted import Gate, GatedClient


async def test_those_who_want_the_same_page_share_a_poll() -> None:
    async with setting() as at:
        at.source.append(3)
        pages = [asyncio.create_task(at.reader.page(0)) for _ in range(5)]
        await at.clock.run(1)

        assert {id(await page) for page in pages} == {id(await pages[0])}
        assert len(at.source.polls) == 1


async def test_whoever_wants_the_middle_of_a_page_gets_it_cut() -> None:
    async with setting() as at:
        at.source.append(3)
        whole, part = (asyncio.create_task(at.reader.page(offset)) for offset in (0, 2))
        await at.clock.run(3)

        # the higher offset is the live end, so it goes first
        assert [entry.sequence for entry in (await part).entries] == [2, 3]
        assert [entry.sequence for entry in (await whole).entries] == [1, 2, 3]
        late = await at.reader.page(3)  # from the cache
        assert ([entry.sequence for entry in late.entries], late.from_offset, late.next_offset) == ([3], 3, 4)
        assert len(at.source.polls) == 2


async def test_a_poll_serves_a_higher_asker_that_came_while_it_was_under_way() -> None:
    async with setting() as at:
        at.source.append(3)
        client = GatedClient(at.source.client(), Gate())
        at.reader._client = client
        under_way = client._gate.hold("client.poll")
        first = asyncio.create_task(at.reader.page(0))
        await at.clock.run(1)
        assert under_way.is_reached
        second = asyncio.create_task(at.reader.page(2))
        await at.clock.run(0)
        under_way.release()
        await at.clock.run(0)

        assert (await first).next_offset == 4
        assert [entry.sequence for entry in (await second).entries] == [2, 3]
        assert len(at.source.polls) == 1


async def test_an_empty_page_is_never_remembered() -> None:
    async with setting() as at:
        first = asyncio.create_task(at.reader.page(1))
        await at.clock.run(1)
        at.source.append(1)
        again = asyncio.create_task(at.reader.page(1))
        await at.clock.run(1)

        assert (await first).entries == []
        assert [entry.sequence for entry in (await again).entries] == [1]


async def test_a_page_is_forgotten_after_a_while_since_lower_sequences_may_be_committed_late() -> None:
    async with setting() as at:
        at.source.append(1)
        first = asyncio.create_task(at.reader.page(0))
        await at.clock.run(1)
        await first
        await at.clock.run(11)
        again = asyncio.create_task(at.reader.page(0))
        await at.clock.run(1)
        await again

        assert len(at.source.polls) == 2
