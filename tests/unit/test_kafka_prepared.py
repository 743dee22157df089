"""What of a batch is sent when an event is refused: what stands before it, looked at again until nothing is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiokafka import TopicPartition

from oplogbridge import Event
from oplogbridge.testing import make_batch
from oplogbridge_sinks.kafka.batches import CODECS, TopicLimits, build
from oplogbridge_sinks.kafka.prepared import Prepared, sendable

PARTITION = TopicPartition("oplog.shop", 0)
NOW_MS = 1_795_381_404_023


async def laid_out(events: Sequence[Event], *refused: Event) -> Prepared:
    """As the sink does it: the partition of a refused event is left out."""
    found = next((event for event in events if event in refused), None)
    built = await build(events, TopicLimits(), CODECS["none"], NOW_MS)
    return Prepared({} if found is not None else {PARTITION: built.batches}, found, "too large" if found else "")


async def test_a_batch_of_which_nothing_is_refused_is_sent_as_it_is() -> None:
    batch = make_batch(1, 2, 3)

    found = await sendable(batch, await laid_out(batch.events), laid_out)

    assert (found.batch, found.refused) == (batch, None)


async def test_an_earlier_event_that_is_refused_only_when_laid_out_again_is_the_one_that_is_named() -> None:
    """Its partition had been left out, and the checkpoint committed behind it: four events were lost."""
    batch = make_batch(1, 2, 3, 4, 5)
    early, late = batch.events[1], batch.events[4]

    found = await sendable(batch, await laid_out(batch.events, late), lambda events: laid_out(events, early))

    assert found.refused is early
    assert found.batch is not None
    assert ([event.sequence for event in found.batch.events], found.batch.next_offset) == ([1], 2)
    assert found.prepared.event_count() == 1


async def test_nothing_is_sent_when_the_first_event_is_refused() -> None:
    batch = make_batch(1, 2)

    found = await sendable(batch, await laid_out(batch.events, batch.events[0]), laid_out)

    assert (found.batch, found.refused) == (None, batch.events[0])


async def test_records_that_are_not_the_batchs_are_never_sent() -> None:
    with pytest.raises(ValueError, match="records of 1 events for 2"):
        await sendable(make_batch(1, 2), await laid_out(make_batch(1).events), laid_out)


async def test_compressing_does_not_wait_for_names_that_are_looked_up() -> None:
    looked_up = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as names:
        asyncio.get_running_loop().set_default_executor(names)
        names.submit(looked_up.wait)
        try:
            events = make_batch(*range(1, 1001)).events
            built = await asyncio.wait_for(build(events, TopicLimits(), CODECS["zstd"], NOW_MS), 20)
        finally:
            looked_up.set()

    assert built.batches[0].record_count() == 1000
