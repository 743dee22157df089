"""Work that may not be done twice, from a JetStream stream: one ordered consumer, its place saved beside the results.

    python examples/nats_once.py nats://localhost:4222 OPLOG_shop results.db

It counts, and counting twice is wrong. The stream's sequence of the last message is saved in the transaction that saves
the result: when this program dies, both are there or neither is, and it goes on exactly behind what counted. The
consumer has no state on the server. A stream that was restored from a backup may give its sequences to other events: so
the source's own number decides what is new.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys

import nats
from nats.errors import TimeoutError as NothingNew
from nats.js.api import ConsumerConfig, DeliverPolicy

TABLES = """
    CREATE TABLE IF NOT EXISTS counts (operation TEXT PRIMARY KEY, events INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS place (stream TEXT PRIMARY KEY, message INTEGER NOT NULL, sequence INTEGER NOT NULL);
"""
COUNT = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET events = events + 1"
EVENTS_MAX = 100  # in one transaction of the results


async def main(url: str, stream: str, path: str) -> None:
    results = sqlite3.connect(path)
    results.executescript(TABLES)
    found = results.execute("SELECT message, sequence FROM place WHERE stream = ?", (stream,)).fetchone()
    message, sequence = found or (0, -1)
    client = await nats.connect(url, allow_reconnect=False)
    behind = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=message + 1)
    events = await client.jetstream().subscribe("", stream=stream, ordered_consumer=True, config=behind)
    while True:
        try:
            messages = [await events.next_msg(timeout=60)]
            while len(messages) < EVENTS_MAX and events.pending_msgs:
                messages.append(await events.next_msg())
        except NothingNew:
            if client.is_closed:
                raise
            continue
        with results:  # one transaction
            for one in messages:
                number = int((one.headers or {})["Oplog-Sequence"])
                if number > sequence:
                    results.execute(COUNT, (json.loads(one.data)["data"]["operation"],))
                    message, sequence = one.metadata.sequence.stream, number
            results.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (stream, message, sequence))
        print(f"{len(messages)} events", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
