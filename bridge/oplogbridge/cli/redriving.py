"""Delivering single entries of the log, behind what the pipeline has delivered: dead letters, and what `verify` misses.
The order of a key decides which of them can be."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

from oplogbridge import wishes
from oplogbridge.assembly import reader_of
from oplogbridge.cli.carrying import carry_out
from oplogbridge.cli.holder import SourceAccess, opened_store, reach_source
from oplogbridge.cli.offsets import actor
from oplogbridge.config import Settings
from oplogbridge.errors import Misconfigured
from oplogbridge.state import AuditRecord
from oplogbridge.status import PipelineStatus
from oplogbridge.values import OFFSET_MAX
from oplogbridge.wishes import Interlude, Wishes


async def delivered_later(settings: Settings, pipeline: str, wanted: Mapping[int, str]) -> dict[int, int]:
    """Of sequences and their keys: those whose key has a later event at the destination already, and which.

    Raises:
        Misconfigured: The destination cannot be read back.
    """
    reader = reader_of(settings, pipeline)
    if reader is None:
        raise Misconfigured(
            f"{settings.pipelines[pipeline].sink.kind} cannot be read back, so nobody knows whether something later of "
            "the same key was delivered: decide, and say --force"
        )
    by_key: dict[bytes, list[int]] = {}
    for sequence, key in wanted.items():
        by_key.setdefault(key.encode(), []).append(sequence)
    later: dict[int, int] = {}
    try:
        for lane in await reader.open():
            async for page in reader.pages(lane, min(wanted), OFFSET_MAX):
                for found in page:
                    waiting = by_key.get(found.key or b"")
                    if waiting is not None and found.sequence is not None:
                        later |= {one: found.sequence for one in waiting if found.sequence > one}
    finally:
        await reader.close()
    return later


async def gone_at_the_source(settings: Settings, source: str, sequences: list[int]) -> list[int]:
    """Those that the source does not show any more."""
    async with reach_source(settings, source) as access:
        gone = []
        for sequence in sequences:
            page = await access.page(sequence)
            if not any(entry["sequence"] == str(sequence) for entry in page["entries"]):
                gone.append(sequence)
        return gone


async def redriven(
    settings: Settings,
    pipeline: str,
    sequences: list[int],
    *,
    action: Literal["dead-letters redrive", "verify --repair"],
    detach: bool,
    left_over: str,
) -> bool:
    """Have the pipeline tell them, and wait until it has; False when it was left to others."""
    source, texts = settings.pipelines[pipeline].source, tuple(map(str, sorted(sequences)))
    shown = ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")
    async with opened_store(settings) as store:
        wanted = Interlude("redrive", pipeline, sequences=texts, by=actor(), at_unix_seconds=time.time())
        await wishes.add_interlude(store, source, wanted)
        await store.record(AuditRecord(time.time(), actor(), action, pipeline, shown))
        await SourceAccess(settings, source, store, None, await store.holder(source)).look()
    if detach:
        return False
    over = False

    def is_over(found: Wishes) -> bool:
        nonlocal over
        over = found.interludes[pipeline].phase == "done"
        return over

    def say(found: Wishes, _: PipelineStatus | None) -> str:
        return f"redriving into {pipeline}: {found.interludes[pipeline].phase}"

    await carry_out(settings, source, pipelines=[pipeline], is_over=is_over, left_over=left_over, show=say)
    return over
