"""The latest state of each object, from a Redis stream: workers of a consumer group that share the stream's entries.

    python examples/redis_workers.py redis://localhost:6379/0 oplog:shop state.db worker-1

Nothing is lost when a worker dies: what it had not acknowledged stays pending in its name. Started again, it does that
first; otherwise another worker claims it when it has been pending for a minute. So entries are done twice, and later
than younger ones: a group keeps no order, and the sequence decides which state is the last.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import suppress
from typing import Any, cast

from redis import Redis, ResponseError

GROUP = "state"
COUNT = 100
# Longer than the work of any COUNT entries takes: what is claimed from a worker that lives is done by both.
CLAIM_AFTER_MS = int(os.environ.get("CLAIM_AFTER_MS", "60000"))

TABLE = "CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, sequence INTEGER NOT NULL, object TEXT)"
# A deleted object stays as a row without an object, or an older state that comes late would bring it back.
SET = """
    INSERT INTO objects VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET sequence = excluded.sequence, object = excluded.object
    WHERE excluded.sequence > objects.sequence
"""


def apply(results: sqlite3.Connection, fields: dict[bytes, bytes]) -> None:
    event = json.loads(fields[b"event"])
    deleted = event["data"]["operation"] == "delete"
    kept = None if deleted else json.dumps(event["data"]["object"])
    results.execute(SET, (fields[b"key"].decode(), int(event["sequence"]), kept))


def main(url: str, stream: str, path: str, worker: str) -> None:
    results = sqlite3.connect(path, timeout=60)
    results.execute(TABLE)
    redis = Redis.from_url(url)
    with suppress(ResponseError):  # the group is there already
        redis.xgroup_create(stream, GROUP, id="0", mkstream=True)

    def lost(ids: list[bytes]) -> None:
        if ids:  # trimmed before anybody had done them: `max_entries` is too small for these workers
            print(f"lost to this group: {ids}", file=sys.stderr)

    def work(entries: list[Any]) -> None:
        """First the result, durably, then the acknowledgement."""
        lost([entry for entry, fields in entries if not fields])
        with results:  # one transaction
            for _, fields in entries:
                if fields:
                    apply(results, fields)
        redis.xack(stream, GROUP, *[entry for entry, _ in entries])
        print(f"{len(entries)} events", flush=True)

    def read(after: str) -> list[Any]:
        found: Any = redis.xreadgroup(GROUP, worker, {stream: after}, count=COUNT, block=1000)
        return found[0][1] if found else []

    while mine := read("0"):  # what this worker had in hand when it died
        work(mine)
    while True:
        _, claimed, gone, *_ = cast("Any", redis.xautoclaim(stream, GROUP, worker, CLAIM_AFTER_MS, count=COUNT))
        lost(gone)
        if claimed:
            work(claimed)
        elif new := read(">"):
            work(new)


if __name__ == "__main__":
    main(*sys.argv[1:])
