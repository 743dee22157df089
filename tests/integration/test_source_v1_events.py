"""The same history through both versions of the API, whole: source, codec, every format. What differs is listed.

docs/source.md has the list for people; each of its rows about events is one of `DIFFERENCES` here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oplogbridge.clock import SystemClock
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.payloads import Format
from oplogbridge.codec.subjects import Filter
from oplogbridge.emulator.server import Emulator
from oplogbridge.source.client import APIS, OplogClient
from oplogbridge.values import Event

ENTRIES, SEED = 400, 20261127


def create_is_update(event: dict[str, Any]) -> None:
    """v1 does not tell a new object from a changed one."""
    for where in (event, event.get("data", {}), event.get("source", {})):
        if isinstance(where, dict):
            for name in ("operation", "__operation"):
                if where.get(name) == "create":
                    where[name] = "update"
    if str(event.get("type", "")).endswith(".create"):
        event["type"] = event["type"].removesuffix("create") + "update"
    if event.get("op") == "c":
        event["op"] = "u"


def nothing_beside_the_object(event: dict[str, Any]) -> None:
    event.pop("datamodelhash", None)
    if isinstance(event.get("data"), dict):
        for name in ("events", "app_id"):
            event["data"].pop(name, None)


STATUS_KEYS = ("open", "busy", "done")  # v1 shows the position of a choice that is text


def bare_choices(value: Any) -> Any:
    """v4 shows `{key, display}`."""
    if isinstance(value, list):
        return [bare_choices(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"key", "display"}:
        return value["key"]
    found = {name: bare_choices(one) for name, one in value.items()}
    if isinstance(found.get("status"), int):
        found["status"] = STATUS_KEYS[found["status"]]
    return found


def choices_are_bare(event: dict[str, Any]) -> None:
    event.update(bare_choices(event))


DIFFERENCES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a new object": create_is_update,
    "a choice": choices_are_bare,
    "`events`, `app_id`, the data model's hash": nothing_beside_the_object,
}


async def events_of(emulator: Emulator, api: str, format: Format) -> list[Event]:  # noqa: A002
    url = emulator.url if api == "v4" else emulator.url.partition("/api/")[0] + "/api/v1"
    client = OplogClient(
        name="shop",
        url=url,
        credentials=None,
        api=APIS[api],
        page_limit=97,
        page_bytes_max=2**24,
        request_timeout_seconds=10.0,
    )
    codec = Codec(source="shop", format=format, filter=Filter("shop"))
    events: list[Event] = []
    offset, more = 0, True
    try:
        while more:
            page = await client.poll(offset)
            assert not page.malformed
            events += codec.events(page)
            offset, more = page.next_offset, page.more
    finally:
        await client.close()
    return events


def without_the_differences(event: Event) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(event.payload)
    for take_away in DIFFERENCES.values():
        take_away(payload)
    return payload


@pytest.mark.parametrize("format", ["cloudevents", "flat", "debezium"])
async def test_both_versions_give_the_same_events_but_for_what_is_listed(format: Format) -> None:  # noqa: A002
    async with Emulator(clock=SystemClock(), entries=ENTRIES, seed=SEED) as emulator:
        v1, v4 = await events_of(emulator, "v1", format), await events_of(emulator, "v4", format)

    assert len(v4) == ENTRIES
    assert [(one.sequence, one.id, one.key, one.time) for one in v1] == [
        (one.sequence, one.id, one.key, one.time) for one in v4
    ]
    assert [without_the_differences(one) for one in v1] == [without_the_differences(one) for one in v4]
    assert {one.operation for one in v4} == {"create", "update", "delete"}
    assert {one.operation for one in v1} == {"update", "delete"}


def test_the_list_for_people_has_these_rows() -> None:
    rows = (Path(__file__).parents[2] / "docs" / "source.md").read_text()
    assert [name for name in DIFFERENCES if f"\n| {name} | " not in rows] == []


async def test_each_listed_difference_is_one() -> None:
    """Else a difference that is gone would stay in the list."""
    async with Emulator(clock=SystemClock(), entries=ENTRIES, seed=SEED) as emulator:
        v1, v4 = await events_of(emulator, "v1", "cloudevents"), await events_of(emulator, "v4", "cloudevents")

    for name in DIFFERENCES:
        others = [take_away for other, take_away in DIFFERENCES.items() if other != name]

        def without_others(event: Event, others: list[Any] = others) -> dict[str, Any]:
            payload: dict[str, Any] = json.loads(event.payload)
            for take_away in others:
                take_away(payload)
            return payload

        assert [without_others(one) for one in v1] != [without_others(one) for one in v4], name


async def test_the_bytes_of_an_objects_fields_are_those_that_came() -> None:
    async with Emulator(clock=SystemClock(), entries=ENTRIES, seed=SEED) as emulator:
        v1, v4 = await events_of(emulator, "v1", "flat"), await events_of(emulator, "v4", "flat")

    def fields(event: Event) -> bytes:
        return event.payload.partition(b'"updated_at":')[2].partition(b',"__operation"')[0]

    # Choices are made anew for v1; what has none keeps its bytes, numbers that no double holds too.
    told = [(fields(one), fields(other)) for one, other in zip(v1, v4, strict=True) if b'"key":' not in other.payload]
    assert len([one for one, _ in told if one]) > ENTRIES // 4
    assert all(one == other for one, other in told)
