"""mq-bridge 1.2.0, which does the same job: Rust behind a Python package; at least once; payload passed through.

It has no end of its own, so it is stopped when nothing more arrives. `pip install 'oplog-bridge[bench]'` brings it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from destinations import Destination, KafkaTopic, RedisStream
from source import PAGE_ENTRIES

PEER = "mq-bridge 1.2.0"
_ROUTE = "oplog"


def command(config: Path) -> list[str]:
    return [sys.executable, "-c", f"import mq_bridge; mq_bridge.Route.from_file({str(config)!r}, {_ROUTE!r}).run()"]


def routes(source_url: str, destination: Destination, directory: Path) -> str:
    parts = urlsplit(source_url)
    return yaml.safe_dump(
        {
            "routes": {
                _ROUTE: {
                    "batch_size": PAGE_ENTRIES,
                    "input": {
                        "middlewares": [{"id": "${payload:object.id}"}],  # the Kafka key
                        "http_bulk": {
                            "url": f"{parts.scheme}://{parts.netloc}",
                            "read": {
                                "path": f"{parts.path}/oplog.json?start={{cursor}}&limit={{limit}}",
                                "items": "/entries",
                                "cursor": {"item": "/sequence", "add": 1, "start": "0"},
                                "cursor_id": destination.name,
                                "checkpoint_store": f"file://{directory}/{destination.name}.cursors.json",
                                "polling_interval_ms": 1000,  # only after an empty page
                            },
                        },
                    },
                    "output": _output(destination),
                }
            }
        }
    )


def _output(destination: Destination) -> dict[str, Any]:
    if isinstance(destination, KafkaTopic):
        return {
            "kafka": {
                "url": destination.bootstrap_servers,
                "topic": destination.name,
                "partitions": 1,
                "partition_key": "mqb.id",
                "producer_options": [["enable.idempotence", "true"], ["acks", "all"]],
            }
        }
    assert isinstance(destination, RedisStream)
    return {"redis_streams": {"url": destination.url, "stream": destination.name}}
