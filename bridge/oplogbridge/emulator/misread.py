"""How the faults of the stage `page` bend an answer. Pure, but for the two that take entries from the log for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from oplogbridge.emulator.faults import Fault, Ordered
from oplogbridge.emulator.log import Log, Row
from oplogbridge.emulator.page import Answer, BadParameter, Query, read_answer
from oplogbridge.emulator.switches import Switches
from oplogbridge.values import OFFSET_MAX


def read_wrongly(
    log: Log, query: Query, switches: Switches, wrong: Sequence[Ordered], last_query: Query | None
) -> tuple[Answer, Query, Switches]:
    by_kind = {ordered.fault.kind: ordered for ordered in wrong}
    for kind in ("retention_cut", "rewind"):
        if kind in by_kind:
            _lose(log, by_kind[kind].fault)
    if "limit_max" in by_kind and query.limit > by_kind["limit_max"].fault.limit:
        raise BadParameter(f"'limit' must not be greater than {by_kind['limit_max'].fault.limit}.")
    if "sequence_ids_ignored" in by_kind:
        query = replace(query, sequence_ids=False)
    if "rounded_numbers" in by_kind:
        switches = msgspec.structs.replace(switches, sequence_numbers="rounded")
    if "duplicate_page" in by_kind and last_query is not None:
        query = replace(last_query, sequence_ids=query.sequence_ids)
    answer = read_answer(log, query, switches, hidden=_hidden(log, query, switches, wrong))
    if "short_page" in by_kind:
        answer = _shorter(answer, by_kind["short_page"].fault)
    rows = list(answer.rows)
    if "conflict" in by_kind and rows:
        sequence, body = rows[len(rows) // 2]
        rows.insert(len(rows) // 2 + 1, (sequence, b'"conflict":true,' + body))
    if "duplicate_entry" in by_kind and rows:
        rows.insert(len(rows) // 2, rows[len(rows) // 2])
    if "out_of_order" in by_kind and len(rows) > 1:
        rows[0], rows[-1] = rows[-1], rows[0]
    return replace(answer, rows=rows), query, switches


def _lose(log: Log, fault: Fault) -> None:
    """By `sequence` or by number of entries; by default half of the log."""
    count = len(log) // 2 if fault.entries is None else fault.entries
    if fault.kind == "rewind":
        sequence = fault.sequence_number or _first_of(log.tail(0, OFFSET_MAX, count))
        log.cut_from(sequence or OFFSET_MAX)
    else:
        kept = len(log) - count
        sequence = fault.sequence_number or _first_of(log.tail(0, OFFSET_MAX, max(kept, 0)))
        log.cut_before(sequence or OFFSET_MAX)


def _first_of(rows: Sequence[Row]) -> int | None:
    return rows[0][0] if rows else None


def _hidden(log: Log, query: Query, switches: Switches, wrong: Sequence[Ordered]) -> frozenset[int]:
    """What is not committed yet. A late commit that names no sequence settles on the first page's last but one."""
    hidden = set()
    for ordered in wrong:
        if ordered.fault.kind != "late_commit":
            continue
        if ordered.sequence is None:
            rows = read_answer(log, query, switches).rows
            ordered.sequence = sorted(sequence for sequence, _ in rows)[-2] if len(rows) > 1 else None
        if ordered.sequence is not None:
            hidden.add(ordered.sequence)
    return frozenset(hidden)


def _shorter(answer: Answer, fault: Fault) -> Answer:
    """What is left out still follows: the page says so, and where."""
    kept = len(answer.rows) // 2 if fault.entries is None else fault.entries
    if kept >= len(answer.rows):
        return answer
    next_start = answer.rows[kept - 1][0] + 1 if kept else answer.rows[0][0]
    return Answer(answer.rows[:kept], more=True, next_start=next_start)
