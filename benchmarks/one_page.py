"""`oplog-bridge run --until-caught-up` with at most one page in a write: `python benchmarks/one_page.py CONFIG`.

Behind, the bridge merges up to four pages; at the live end a poll brings one. Nobody would configure this, so there is
no setting for it: it is what the merging is worth.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import replace
from pathlib import Path

from source import PAGE_ENTRIES

from oplogbridge import garbage
from oplogbridge.assembly import sources_of, store_of
from oplogbridge.bridge import Bridge
from oplogbridge.cli.serving import keep_freed_memory
from oplogbridge.clock import SystemClock
from oplogbridge.config import load
from oplogbridge.spec import SourceSpec


def _one_page_a_write(source: SourceSpec) -> SourceSpec:
    pipelines = [
        replace(pipeline, traits=replace(pipeline.traits, events_max=PAGE_ENTRIES)) for pipeline in source.pipelines
    ]
    return replace(source, pipelines=pipelines)


async def _run(config: Path) -> None:
    settings, clock = load([config], os.environ).settings, SystemClock()
    bridge = Bridge(
        [_one_page_a_write(source) for source in sources_of(settings)],
        store=store_of(settings, clock),
        clock=clock,
        jitter=random.random,
        lease_ttl_seconds=settings.lease_ttl,
        shutdown_timeout_seconds=settings.shutdown_timeout,
        until_caught_up=True,
    )
    garbage.leave_what_is_loaded()
    keep_freed_memory()
    await bridge.run()
    bridge.raise_if_stopped()


asyncio.run(_run(Path(sys.argv[1])))
