"""The line over HTTP, against the emulator with its faults: all arrives once, and the source sees the pace kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from oplogbridge.clock import SystemClock
from oplogbridge.emulator.faults import Fault
from oplogbridge.emulator.server import Emulator
from oplogbridge.source.client import Credentials, OplogClient
from world import PipelineChoice, World

INTERVAL = 0.02
SLIP = 0.002  # two arrivals can be this much nearer than their departures


@asynccontextmanager
async def a_line(
    *pipelines: PipelineChoice, credentials: Credentials | None = None, rounded: bool = False, **options: Any
) -> AsyncIterator[tuple[Emulator, World]]:
    clock = SystemClock()
    async with Emulator(clock=clock, **options) as emulator:

        def make_client() -> OplogClient:
            return OplogClient(
                name="shop",
                url=emulator.url,
                credentials=credentials,
                rounded_allowed=rounded,
                page_limit=5,
                page_bytes_max=2**20,
                request_timeout_seconds=0.3,
            )

        async with World(
            *pipelines,
            clock=clock,
            make_client=make_client,
            poll_interval_seconds=INTERVAL,
            jitter=lambda: 0.0,
            lease_ttl_seconds=5.0,
        ) as world:
            yield emulator, world


def append(emulator: Emulator, count: int) -> None:
    for n in range(count):
        emulator.append("create", {"id": str(n), "type": "user", "name": "Zoë"})


def sequences(emulator: Emulator) -> list[int]:
    return [row[0] for row in emulator.log.read(0, 2**63, 10**6)]


def assert_paced(emulator: Emulator) -> None:
    gap = emulator.requests.shortest_gap_seconds()
    assert gap is not None
    assert gap >= INTERVAL - SLIP


@pytest.mark.parametrize("sequence_ids", ["honoured", "ignored"])
async def test_every_entry_arrives_in_either_way_of_writing_the_number(sequence_ids: str) -> None:
    async with a_line() as (emulator, world):
        emulator.switch(sequence_ids=sequence_ids)
        append(emulator, 23)
        world.start(until_caught_up=True)

        await world.eventually(lambda: len(world.sequences) == 23)
        await world.instances[0].ended()

        assert world.sequences == sequences(emulator)
        assert_paced(emulator)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "500"},
        {"kind": "502"},
        {"kind": "503"},
        {"kind": "504"},
        {"kind": "408"},
        {"kind": "html"},
        {"kind": "body", "body": ""},
        {"kind": "body", "body": '{"entries":['},
        {"kind": "reset"},
        {"kind": "cut"},
        {"kind": "truncated"},
        {"kind": "slow"},
        {"kind": "stall"},
        {"kind": "duplicate_entry"},
        {"kind": "duplicate_page"},
        {"kind": "out_of_order"},
        {"kind": "short_page"},
        {"kind": "short_page", "entries": 0},
        {"kind": "sequence_ids_ignored"},
        {"kind": "limit_max", "limit": 2, "count": 3},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
async def test_a_fault_of_the_source_neither_loses_nor_repeats_nor_hastens_anything(fault: dict[str, Any]) -> None:
    async with a_line() as (emulator, world):
        append(emulator, 17)
        emulator.faults.add(Fault(after=1, **fault))
        one = world.start()

        await world.eventually(lambda: len(world.sequences) == 17)

        assert world.sequences == sequences(emulator)
        assert_paced(emulator)
        assert one.pipeline().state == "running"
        emulator.faults.clear()


async def test_a_429_with_retry_after_is_waited_for() -> None:
    async with a_line() as (emulator, world):
        append(emulator, 3)
        emulator.faults.add("429", retry_after_seconds=1)
        world.start()

        await world.eventually(lambda: len(world.sequences) == 3)

        first, second = list(emulator.requests)[:2]
        assert second.monotonic - first.monotonic >= 1.0


@pytest.mark.parametrize("fault", ["401", "404", "302", "conflict"])
async def test_what_only_a_person_can_mend_stops_the_line_and_not_the_process(fault: str) -> None:
    async with a_line() as (emulator, world):
        append(emulator, 3)
        emulator.faults.add(fault, location="https://else.example/") if fault == "302" else emulator.faults.add(fault)
        one = world.start()

        await world.eventually(lambda: one.status != {} and one.pipeline().state == "stopped")

        assert world.sequences == []
        assert len(emulator.requests) == 1


async def test_an_outage_of_the_source_is_waited_out() -> None:
    async with a_line() as (emulator, world):
        append(emulator, 3)
        one = world.start()
        await world.eventually(lambda: len(world.sequences) == 3)
        await emulator.stop()
        append(emulator, 3)
        await world.eventually(lambda: one.source_status.error is not None)

        await emulator.start()
        await world.eventually(lambda: len(world.sequences) == 6)

        assert world.sequences == sequences(emulator)


async def test_several_pipelines_and_a_take_over_keep_the_pace_together() -> None:
    async with a_line(PipelineChoice("a"), PipelineChoice("b", types=frozenset({"order"})), PipelineChoice("c")) as (
        emulator,
        world,
    ):
        append(emulator, 12)
        one = world.start()
        two = world.start()
        await world.eventually(lambda: len(world.at("c").sequences) == 12)
        holder, other = (one, two) if one.source_status.lease_held else (two, one)
        holder.stop()
        await holder.ended()
        append(emulator, 12)
        await world.eventually(lambda: len(world.at("c").sequences) == len(world.at("a").sequences) == 24)

        assert other.source_status.lease_held
        assert world.at("a").sequences == world.at("c").sequences == sequences(emulator)
        assert_paced(emulator)


async def test_rounded_numbers_of_a_source_stop_the_line_unless_they_are_allowed() -> None:
    for rounded in (False, True):
        async with a_line(rounded=rounded) as (emulator, world):
            emulator.switch(sequence_ids="ignored", sequence_numbers="rounded")
            for n in range(12):
                emulator.append("create", {"id": "1", "type": "user"}, sequence=(1423124117 + n) << 32 | 1)
            one = world.start(until_caught_up=True)
            await world.eventually(lambda one=one: one.task is not None and one.task.done())

            assert one.pipeline().state == ("finished" if rounded else "stopped")
            assert len(world.sequences) == (12 if rounded else 5)


async def test_the_vendors_example_is_delivered_as_documented() -> None:
    body = (Path(__file__).parent.parent / "unit" / "vendor_example_page.json").read_text()
    async with a_line(rounded=True) as (emulator, world):
        emulator.faults.add("body", body=body)
        emulator.faults.add("short_page", entries=0, count=None)
        one = world.start(until_caught_up=True)
        await world.eventually(lambda: one.task is not None and one.task.done())

        assert [event.id for event in world.at().log] == [
            "6009123137931706000",
            "6112271540663878000",
            "6112271738232373000",
            "6112271772592112000",
            "6112271910031065000",
        ]
        assert [event.key.partition(b"/")[0] for event in world.at().log] == [b"task", *[b"user"] * 3, b"category"]


@pytest.mark.parametrize(
    "credentials",
    [Credentials.basic("533bda53027894f69b001055", "pw"), Credentials.bearer("t1"), Credentials.token("t1")],
)
async def test_each_way_to_log_in_is_let_in_and_none_is_not(credentials: Credentials) -> None:
    for given, state in ((credentials, "running"), (None, "stopped")):
        async with a_line(credentials=given, password="pw", tokens=("t1",)) as (emulator, world):
            append(emulator, 2)
            one = world.start()

            await world.eventually(lambda one=one: one.status != {} and one.pipeline().state in ("running", "stopped"))
            await world.eventually(lambda one=one: len(world.sequences) == 2 or one.pipeline().state == "stopped")

            assert one.pipeline().state == state
