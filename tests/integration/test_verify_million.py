"""A million lines in a file, of which four were tampered with: those are found, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from oplogbridge.cli.verifying import LaneReading
from oplogbridge.sink import SinkContext
from oplogbridge.testing.sink_reading import cloudevent
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge.values import OFFSET_MAX, Event
from oplogbridge.verify.comparison import Comparison
from oplogbridge_sinks.file import FileSettings, plugin

MILLION, PAGE = 1_000_000, 1_000
DELETED, COPIED, ONE_SWAPPED, OTHER_SWAPPED, CHANGED = 500_000, 100_003, 200_001, 200_900, 300_007


def pages() -> Iterator[list[Event]]:
    """Every event of a page is the first one with another number: making a million costs less than comparing them."""
    for begin in range(FIRST, FIRST + MILLION, PAGE):
        first = cloudevent(begin)
        number = first.id.encode()
        yield [
            Event(
                sequence,
                str(sequence),
                first.key,
                first.type,
                None,
                first.payload.replace(number, b"%d" % sequence),
                first.constant_headers,
                first.object_type,
                first.operation,
            )
            for sequence in range(begin, begin + PAGE)
        ]


def write_tampered(path: Path) -> None:
    with path.open("wb") as file:
        for page in pages():
            lines = [event.payload for event in page]
            at = page[0].sequence - FIRST
            for change in (DELETED, COPIED, ONE_SWAPPED, CHANGED):
                if at <= change < at + PAGE:
                    tamper(lines, change, at)
            file.write(b"".join([line + b"\n" for line in lines]))


def tamper(lines: list[bytes], change: int, at: int) -> None:
    index = change - at
    if change == DELETED:
        del lines[index]
    elif change == COPIED:
        lines.insert(index + 400, lines[index])
    elif change == ONE_SWAPPED:
        other = OTHER_SWAPPED - at
        lines[index], lines[other] = lines[other], lines[index]
    else:
        lines[index] = lines[index].replace(b"object", b"objekt")


async def test_four_things_done_to_a_million_lines_are_found_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write_tampered(path)
    reader = (
        plugin.reader(FileSettings(path=str(path)), SinkContext("b.o", "o", "shop", "any")) if plugin.reader else None
    )
    assert reader is not None
    (lane,) = await reader.open()
    comparison = Comparison([lane], shown=reader.shown, lane_of=reader.lane_of)
    reading = LaneReading(reader, lane, 0, OFFSET_MAX, comparison)

    for events in pages():
        below = events[-1].sequence + 1
        comparison.expect(events, below, None)
        await reading.up_to(below)
        comparison.close()
    comparison.expect([], OFFSET_MAX, None)
    await reading.up_to(OFFSET_MAX)
    comparison.close()
    findings = comparison.end()
    await reader.close()

    assert (findings.compared, findings.matched) == (MILLION, MILLION - 1)
    assert {kind: sorted(int(one.id or 0) - FIRST for one in listed) for kind, listed in findings.listed.items()} == {
        "missing": [DELETED],
        "duplicate": [COPIED],
        "reordered": [ONE_SWAPPED, OTHER_SWAPPED],
        "altered": [CHANGED],
    }
