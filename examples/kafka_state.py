"""The latest state of each object, from Kafka: a consumer group that commits after its work is durable.

    python examples/kafka_state.py localhost:9092 oplog.shop state.db worker-1

Nothing is lost when this program dies: what was not committed comes again. It comes in order, and to set an object to a
state twice is to set it once, so nothing has to be dropped. Work that may not be done twice (counting, sending mail)
keeps its offset beside its result instead, in one transaction, as redis_once.py does.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError

TABLE = "CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, sequence INTEGER NOT NULL, object TEXT)"
# The last line is for a worker that lost a partition and does not know it yet: what it writes late changes nothing. A
# deleted object stays as a row without an object, or such a worker would bring it back.
SET = """
    INSERT INTO objects VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET sequence = excluded.sequence, object = excluded.object
    WHERE excluded.sequence > objects.sequence
"""


def apply(results: sqlite3.Connection, value: bytes) -> None:
    event = json.loads(value)
    deleted = event["data"]["operation"] == "delete"
    kept = None if deleted else json.dumps(event["data"]["object"])
    results.execute(SET, (event["partitionkey"], int(event["sequence"]), kept))


async def main(servers: str, topic: str, path: str, worker: str) -> None:
    results = sqlite3.connect(path)
    results.execute(TABLE)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=f"state-of-{topic}",
        group_instance_id=worker,  # started again under its name, it has its partitions back at once
        isolation_level="read_committed",  # without it, events of a batch that was given up are seen, and seen again
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with consumer:
        while True:
            found = await consumer.getmany(timeout_ms=1000, max_records=100)
            if not found:
                continue
            with results:  # one transaction
                for records in found.values():
                    for record in records:
                        if record.value is not None:  # a tombstone repeats the delete before it
                            apply(results, record.value)
            try:
                await consumer.commit({partition: records[-1].offset + 1 for partition, records in found.items()})
            except (CommitFailedError, IllegalStateError):
                continue  # the partitions are another worker's by now, who does this part again
            print(f"{sum(map(len, found.values()))} events", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
