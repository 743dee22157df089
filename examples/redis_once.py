"""Work that may not be done twice, from a Redis stream: one reader, which keeps its place beside its results.

    python examples/redis_once.py redis://localhost:6379/0 oplog:shop results.db

It counts, and counting twice is wrong. The id of the last entry is saved in the transaction that saves the result: when
this program dies, both are there or neither is, and it goes on exactly behind what counted. Ids are the source's
sequences: should a fail-over of Redis lose entries that were read already, the bridge writes them again under their old
ids, and this reader is past those.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

from redis import Redis

TABLES = """
    CREATE TABLE IF NOT EXISTS counts (operation TEXT PRIMARY KEY, events INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS place (stream TEXT PRIMARY KEY, id TEXT NOT NULL);
"""
COUNT = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET events = events + 1"


def main(url: str, stream: str, path: str) -> None:
    results = sqlite3.connect(path)
    results.executescript(TABLES)
    redis = Redis.from_url(url)
    saved = results.execute("SELECT id FROM place WHERE stream = ?", (stream,)).fetchone()
    last = saved[0] if saved else "0"
    while True:
        found: Any = redis.xread({stream: last}, count=100, block=1000)
        if not found:
            continue
        ((_, entries),) = found
        last = entries[-1][0].decode()
        with results:  # one transaction
            for _, fields in entries:
                results.execute(COUNT, (json.loads(fields[b"event"])["data"]["operation"],))
            results.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (stream, last))
        print(f"{len(entries)} events", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
