"""Where events go that a destination will never take: each kept once, durably, by the letters' own position."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from structlog.testing import capture_logs

from oplogbridge.codec.dead_letters import dead_letter_event
from oplogbridge.dead_letters import DeadLetters
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.sink import SinkContext
from oplogbridge.testing import MemoryDestination, MemorySettings, MemorySink
from oplogbridge.testing.clock import ManualClock


class Box:
    """A dead-letter destination and pipelines that write to it, one after the other."""

    def __init__(self, **settings: Any) -> None:
        self.name = f"letters-{uuid.uuid4().hex[:8]}"
        self.settings = MemorySettings(name=self.name, **settings)
        self.at = MemoryDestination.named(self.name)
        self.clock = ManualClock()
        self.lease = Lease("shop", "1-a", 10.0, self.clock, self.clock.monotonic() + 10.0)
        self.made = 0

    def letters(self, source_id: str = "id") -> DeadLetters:
        def make_sink() -> MemorySink:
            self.made += 1
            return MemorySink(self.settings, SinkContext("b.orders.dead-letters", "orders", "shop", source_id))

        return DeadLetters(make_sink, pipeline="orders", source="shop", source_id=source_id, lease=self.lease)


async def keep(letters: DeadLetters, sequence: int) -> bool:
    return await letters.keep(sequence, key=b"user/7", rejected=b"{}", reason="too large")


async def test_letters_are_kept_in_order_by_a_sink_that_is_opened_at_the_first() -> None:
    box = Box()
    letters = box.letters()
    assert box.made == 0

    assert [await keep(letters, sequence) for sequence in (5, 9, 10)] == [True, True, True]

    assert (box.at.sequences, box.made) == ([5, 9, 10], 1)


async def test_a_letter_that_is_there_already_is_not_written_again() -> None:
    box = Box()
    await keep(box.letters(), 5)

    with capture_logs() as said:
        assert await keep(box.letters(), 5) is False

    assert box.at.sequences == [5]
    assert [(line["event"], line["sequence"], line["reason"]) for line in said] == [
        ("dead letter kept already", 5, "too large")
    ]


async def test_a_letter_whose_answer_was_lost_is_not_written_again() -> None:
    box = Box()
    box.at.lose_replies(1)
    letters = box.letters()
    with pytest.raises(Unavailable):
        await keep(letters, 5)
    await letters.close()

    assert await keep(box.letters(), 5) is False
    assert box.at.sequences == [5]


async def test_a_broken_dead_letter_destination_is_an_error_like_any_sinks() -> None:
    box = Box()
    box.at.down()

    with pytest.raises(Unavailable):
        await keep(box.letters(), 5)


async def test_a_letter_that_the_letters_own_destination_refuses_is_for_a_person() -> None:
    box = Box(event_bytes_max=10)

    with pytest.raises(Misconfigured, match=r"too large.*choose another `dead_letter` sink"):
        await keep(box.letters(), 5)


async def test_letters_of_another_source_are_not_mixed_with_ours() -> None:
    box = Box()
    await keep(box.letters("one"), 5)

    with pytest.raises(Misconfigured, match="belong to source 'one'"):
        await keep(box.letters("two"), 9)


async def test_the_lease_is_checked_in_the_instant_before_a_letter_is_written() -> None:
    box = Box()
    box.clock.advance(10.0)

    with pytest.raises(Fenced):
        await keep(box.letters(), 5)

    assert (box.at.sequences, box.at.token) == ([], 0)  # not even opened, which would fence a new owner


async def test_the_lease_is_checked_again_before_each_further_letter() -> None:
    box = Box()
    letters = box.letters()
    await keep(letters, 5)
    box.clock.advance(10.0)

    with pytest.raises(Fenced):
        await keep(letters, 9)

    assert box.at.sequences == [5]


async def test_closing_closes_what_was_opened_and_may_come_twice() -> None:
    box = Box()
    letters = box.letters()
    await letters.close()
    await keep(letters, 5)
    await letters.close()
    await letters.close()

    assert await keep(letters, 9) is True  # opened anew
    assert (box.made, box.at.sequences) == (2, [5, 9])


def test_a_letter_is_a_cloud_event_that_holds_what_was_refused_and_why() -> None:
    event = dead_letter_event(
        source="my shop", pipeline="orders", sequence=42, key=b"user/7", rejected=b"\xff{", reason='too "large"'
    )

    payload = json.loads(event.payload)
    assert payload == {
        "specversion": "1.0",
        "id": "42",
        "source": "/oplogs/my%20shop",
        "type": "oplog.dead_letter",
        "subject": "user/7",
        "datacontenttype": "application/json",
        "sequence": "42".zfill(19),
        "partitionkey": "user/7",
        "data": {
            "sequence": "42",
            "pipeline": "orders",
            "reason": 'too "large"',
            "rejected": base64.b64encode(b"\xff{").decode(),
        },
    }
    assert (event.sequence, event.id, event.key, event.type) == (42, "42", b"user/7", "oplog.dead_letter")
    assert dict(event.headers)["Oplog-Sequence"] == b"42"


def test_a_malformed_entry_has_no_key_so_its_sequence_stands_in() -> None:
    event = dead_letter_event(source="shop", pipeline="orders", sequence=42, key=None, rejected=b"x", reason="r")

    assert event.key == b"malformed/42"


def test_the_same_letter_is_the_same_bytes() -> None:
    letter = {"source": "s", "pipeline": "p", "sequence": 1, "key": b"\xff", "rejected": b"x", "reason": "r"}

    assert dead_letter_event(**letter) == dead_letter_event(**letter)  # type: ignore[arg-type]
