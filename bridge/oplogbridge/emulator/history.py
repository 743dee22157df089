"""What is in the log before the first request: written by the workload, or read from a file of JSON Lines.

It is deterministic: it begins in a fixed second of the past, whatever the clock says.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import msgspec

from oplogbridge.emulator.entry import read_line
from oplogbridge.emulator.log import Body, Log
from oplogbridge.emulator.sequences import next_sequence, second_of
from oplogbridge.emulator.workload import FixedWorkload, Workload
from oplogbridge.errors import ConfigError

BEGINS_UNIX_SECONDS = 1_767_592_800  # 2026-01-05T06:00:00Z
FIXED_PER_SECOND = 1_000
BURST_FIRST_AT_ENTRIES = 1_500
BURST_EVERY_ENTRIES = 25_000
LOADED_PER_SECOND = 100
PROBLEMS_SHOWN_MAX = 20


def write_history(log: Log, workload: Workload, entries: int, *, seed: int) -> None:
    steps = _fixed_steps(entries) if isinstance(workload, FixedWorkload) else _app_steps(entries, random.Random(seed))
    for unix_second, count in steps:
        first = next_sequence(log.newest, unix_second)
        log.append(range(first, first + count), workload.bodies(count, second_of(first)))


def _fixed_steps(entries: int) -> Iterator[tuple[int, int]]:
    for index, written in enumerate(range(0, entries, FIXED_PER_SECOND)):
        yield BEGINS_UNIX_SECONDS + index, min(FIXED_PER_SECOND, entries - written)


def _app_steps(entries: int, source: random.Random) -> Iterator[tuple[int, int]]:
    """(second, writes in it). Now and then a device that was offline brings more than a page in one second."""
    second, left, burst_in = BEGINS_UNIX_SECONDS, entries, BURST_FIRST_AT_ENTRIES
    while left > 0:
        if burst_in <= 0:
            count, burst_in = source.randint(1_001, 2_500), BURST_EVERY_ENTRIES
        else:
            count = source.choice((1, 1, 1, 2, 3, 8))
        count = min(count, left)
        yield second, count
        left -= count
        burst_in -= count
        second += source.choice((1, 1, 1, 2, 5, 60))


def load_lines(
    log: Log, lines: Iterable[bytes], *, default_type: str, where: str, first_second: int = BEGINS_UNIX_SECONDS
) -> list[int]:
    """Play lines of JSON as entries and return their sequences; all of them or, with a ConfigError, none.

    An entry without a usable number of its own comes right after the entry before it.
    """
    sequences: list[int] = []
    bodies: list[Body] = []
    problems: list[str] = []
    newest = log.newest
    minted = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = read_line(line, default_type=default_type, number=number)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"line {number}: {error}")
            continue
        sequence = read.sequence
        if sequence is None:
            sequence = next_sequence(newest, first_second + minted // LOADED_PER_SECOND)
            minted += 1
        newest = max(newest, sequence)
        sequences.append(sequence)
        bodies.append(read.body)
    if not problems:
        try:
            log.append(sequences, bodies)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(where, problems[:PROBLEMS_SHOWN_MAX])
    return sequences
