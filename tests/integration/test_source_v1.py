"""API v1, from the emulator: the history of v4 but for what v1 does not tell, and a pipeline that moves to v4."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oplogbridge.clock import SystemClock
from oplogbridge.emulator.server import Emulator
from oplogbridge.errors import Misconfigured
from oplogbridge.source.client import APIS, OplogClient
from oplogbridge.values import Entry
from world import World


def url_of(emulator: Emulator, api: str) -> str:
    return emulator.url if api == "v4" else emulator.url.partition("/api/")[0] + "/api/v1"


def a_client(emulator: Emulator, api: str, *, page_limit: int = 3) -> OplogClient:
    return OplogClient(
        name="shop",
        url=url_of(emulator, api),
        credentials=None,
        api=APIS[api],
        page_limit=page_limit,
        page_bytes_max=2**20,
        request_timeout_seconds=5.0,
    )


@asynccontextmanager
async def an_emulator() -> AsyncIterator[Emulator]:
    async with Emulator(clock=SystemClock()) as emulator:
        for number in range(4):
            emulator.append("create", {"id": str(number), "type": "user", "name": "Zoë", "tags": [1.0, None]})
        emulator.append("update", {"id": "1", "type": "user", "name": "Zoé"})
        emulator.append("delete", {"id": "2", "type": "user"})
        yield emulator


async def the_log(emulator: Emulator, api: str) -> list[Entry]:
    client = a_client(emulator, api)
    try:
        entries: list[Entry] = []
        offset, more = 0, True
        while more:
            page = await client.poll(offset)
            entries += page.entries
            offset, more = page.next_offset, page.more
        return entries
    finally:
        await client.close()


async def test_v1_and_v4_show_the_same_history_but_for_what_v1_does_not_tell() -> None:
    async with an_emulator() as emulator:
        v1, v4 = await the_log(emulator, "v1"), await the_log(emulator, "v4")

    assert len(v1) == 6
    assert [told(entry) for entry in v1] == [told(entry) for entry in v4]
    assert [entry.operation for entry in v4] == ["create"] * 4 + ["update", "delete"]
    assert [entry.operation for entry in v1] == ["update"] * 5 + ["delete"]


def told(entry: Entry) -> tuple[Any, ...]:
    named = (entry.sequence, entry.object_type, entry.object_id, entry.updated_at)
    return *named, json.loads(bytes(entry.object))


async def test_the_newest_entries_cannot_be_asked_of_v1_and_nothing_is_sent() -> None:
    async with an_emulator() as emulator:
        client = a_client(emulator, "v1")
        with pytest.raises(Misconfigured, match="start from a sequence or `earliest`"):
            await client.poll_tail()
        await client.close()

        assert emulator.requests.total == 0


async def test_a_pipeline_moves_from_v1_to_v4_without_a_gap_or_a_copy() -> None:
    async with an_emulator() as emulator:
        apis = iter(["v1", "v4"])  # one process after the other, one configuration after the other
        async with World(
            clock=SystemClock(), make_client=lambda: a_client(emulator, next(apis)), poll_interval_seconds=0.02
        ) as world:
            one = world.start()
            await world.eventually(lambda: len(world.sequences) == 6)
            one.stop()
            await one.ended()
            for number in range(5):
                emulator.append("create", {"id": f"new-{number}", "type": "user"})

            world.start()
            await world.eventually(lambda: len(world.sequences) >= 11)
            await world.eventually(lambda: world.instances[1].pipeline().caught_up)

            assert world.sequences == [row[0] for row in emulator.log.read(0, 2**63, 100)]
        paths = {request.path for request in emulator.requests}
        assert paths == {"/api/v1/_oplog.json", f"/api/v4/{emulator.url.rpartition('/')[2]}/oplog.json"}
