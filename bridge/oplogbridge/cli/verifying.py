"""Reads a destination and the source's range side by side, for `verify`; the comparison itself is pure."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

import orjson

from oplogbridge.assembly import dead_letter_reader_of, reader_of
from oplogbridge.attachments.references import references_of
from oplogbridge.cli.holder import opened_store, reach_source, spec_of
from oplogbridge.cli.source_range import source_range
from oplogbridge.config import Settings
from oplogbridge.errors import Misconfigured
from oplogbridge.sink import Delivered, DestinationReader, Lane
from oplogbridge.source.start import Start
from oplogbridge.values import OFFSET_EARLIEST, Event, Page
from oplogbridge.verify.comparison import Comparison
from oplogbridge.verify.findings import Findings
from oplogbridge.verify.order import LaneOrder

LETTERS_MAX = 1_000_000  # that are remembered
Progress = Callable[[int, Findings], None]


class Verified(NamedTuple):
    begin: int
    end: int
    findings: Findings


class LaneReading:
    """One lane, read as far as the comparison is."""

    def __init__(self, reader: DestinationReader, lane: Lane, begin: int, end: int, comparison: Comparison) -> None:
        self._pages = reader.pages(lane, begin, end)
        self._order = LaneOrder()
        self._comparison = comparison

    async def up_to(self, below: int) -> None:
        while True:
            while self._order.wants_more(below):
                page = await anext(self._pages, None)
                if page is None:
                    self._order.end()
                else:
                    self._comparison.found([], self._order.add(self._of_the_log(page)))
            self._comparison.found(*self._order.take(below))
            if self._order.is_past(below):
                return

    def _of_the_log(self, page: Sequence[Delivered]) -> list[Delivered]:
        findings, kept = self._comparison.findings, []
        for one in page:
            if one.place is not None and one.id == str(one.sequence):
                findings.late += 1  # an entry of the log, told where it was found
                self._comparison.found([], [one])
            elif one.place is not None:
                findings.beside += 1
            elif one.replay is not None:
                findings.replayed += 1
            elif one.sequence is None:
                self._comparison.foreign(one)
            elif one.payload is not None:  # a tombstone stands for the delete before it
                kept.append(one)
        return kept


async def verify(settings: Settings, pipeline: str, start: Start | None, to: Start | None, told: Progress) -> Verified:
    """`start` and `to` are as the operator said; None is for what can be known.

    Raises:
        BridgeError: One of the two cannot be read, or there is nothing to compare yet.
    """
    chosen = settings.pipelines[pipeline]
    reader = reader_of(settings, pipeline)
    if reader is None:
        raise Misconfigured(
            f"pipeline {pipeline} delivers to {chosen.sink.kind}, which cannot be read back: verify is for kafka, "
            "redis, nats and file"
        )
    # In this order: all that lies below the offset stands at the destination before the offset says so.
    async with opened_store(settings) as store:
        stored = await store.peek(pipeline)
    if stored is None:
        raise Misconfigured(f"pipeline {pipeline} has delivered nothing yet: let `oplog-bridge run` do so first")
    try:
        lanes = await reader.open()
        end = stored.offset if to is None else min(await _resolved(settings, chosen.source, to), stored.offset)
        wanted = start or chosen.start
        if start is None and wanted.kind in ("latest", "snapshot"):
            begin = await _first_there(reader, lanes, end)
        else:
            begin = await _resolved(settings, chosen.source, wanted)
        letters = await _dead_letters(settings, pipeline, begin, end)
        spec = spec_of(settings, pipeline)
        comparison = Comparison(
            lanes,
            shown=reader.shown,
            lane_of=reader.lane_of,
            binary=chosen.mode == "binary",
            names_model=chosen.format == "cloudevents",
            dead_letters=letters,
            oldest=None if begin == OFFSET_EARLIEST else begin,
        )
        readings = [LaneReading(reader, lane, begin, end, comparison) for lane in lanes]

        async def compare(
            events: Sequence[Event], below: int, model: str | None, volatile: frozenset[int] = frozenset()
        ) -> None:
            comparison.expect(events, below, model, volatile)
            for reading in readings:
                await reading.up_to(below)
            comparison.close()
            if comparison.is_crowded:
                comparison.keep(await reader.kept())
            told(below, comparison.findings)

        async with contextlib.aclosing(source_range(settings, chosen.source, begin, end)) as pages:
            async for page in pages:
                _check_raw(page, chosen.format, pipeline)
                if page.entries:
                    comparison.shows_from(page.entries[0].sequence)
                comparison.findings.malformed += sum(one.sequence < end for one in page.malformed)
                events = [event for event in spec.codec.events(page) if event.sequence < end]
                attachments = None if spec.attachments is None else spec.attachments.fields
                volatile = frozenset(one.sequence for one in page.entries if references_of(one, attachments))
                await compare(events, min(page.next_offset, end), page.datamodel_hash, volatile)
        await compare([], end, None)  # what the destination holds beyond the source's last entry
        comparison.keep(await reader.kept())
        return Verified(begin, end, comparison.end())
    finally:
        await reader.close()


async def _resolved(settings: Settings, source: str, start: Start) -> int:
    if start.kind in ("earliest", "sequence"):
        return OFFSET_EARLIEST if start.value is None else start.value
    async with reach_source(settings, source) as access:
        return await access.resolve(start)


async def _first_there(reader: DestinationReader, lanes: Sequence[Lane], end: int) -> int:
    """Where such a pipeline began is not kept: what stands first at the destination tells."""
    first = end
    for lane in lanes:
        async with contextlib.aclosing(_sequences(reader, lane, end)) as sequences:
            first = min(first, await anext(sequences, end))
    return first


async def _sequences(reader: DestinationReader, lane: Lane, end: int) -> AsyncGenerator[int, None]:
    async for page in reader.pages(lane, OFFSET_EARLIEST, end):
        for one in page:
            if one.sequence is not None and one.place is None and one.replay is None:
                yield one.sequence


async def _dead_letters(settings: Settings, pipeline: str, begin: int, end: int) -> set[int]:
    """The sequences of the pipeline's letters in the range."""
    reader = dead_letter_reader_of(settings, pipeline)
    if reader is None:
        return set()
    found: set[int] = set()
    try:
        for lane in await reader.open():
            async for page in reader.pages(lane, begin, end):
                found |= {one.sequence for one in page if one.sequence is not None and _is_of(one, pipeline)}
                if len(found) > LETTERS_MAX:
                    raise Misconfigured(
                        f"pipeline {pipeline} has more than {LETTERS_MAX:,} dead letters: narrow the range"
                    )
    finally:
        await reader.close()
    return found


def _is_of(letter: Delivered, pipeline: str) -> bool:
    try:
        told = orjson.loads(letter.payload or b"")
        return bool(told["type"] == "oplog.dead_letter" and told["data"]["pipeline"] == pipeline)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def _check_raw(page: Page, format_: str, pipeline: str) -> None:
    if format_ == "raw" and any(entry.raw is None for entry in page.entries):
        raise Misconfigured(
            f"pipeline {pipeline} has format raw, and whoever holds its source keeps no raw entries: let it reload "
            "this configuration"
        )
