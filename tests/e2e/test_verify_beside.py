"""`oplog-bridge verify` beside live pipelines on real servers: lanes, retention and dead letters are no differences."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import rig
from services import KafkaServer, NatsServer, RedisServer

EVENT_BYTES_MAX = 560


def test_beside_live_pipelines_nothing_is_found_that_is_not_so(
    tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer, own_nats: Any, unique: str
) -> None:
    nats: NatsServer = own_nats()
    kafka = {"kind": "kafka", "bootstrap_servers": kafka_server.bootstrap_servers, "create": True}
    sinks: dict[str, dict[str, Any]] = {
        "partitions": {**kafka, "topic": f"{unique}-one", "partitions": 3},
        "topics": {**kafka, "topic": f"{unique}-of-{{type}}"},
        "streams": {"kind": "redis", "url": redis_server.url, "stream": f"{{{{{unique}}}}}:{{type}}"},
        "trimmed": {"kind": "redis", "url": redis_server.url, "stream": f"{unique}:trimmed", "max_entries": 500},
        "letters": {
            "kind": "redis",
            "url": redis_server.url,
            "stream": f"{unique}:letters",
            "event_bytes_max": f"{EVENT_BYTES_MAX}B",
        },
        "expiring": {"kind": "nats", "url": nats.url, "stream": unique, "create": True, "max_messages": 700},
    }
    with rig.emulator("--entries", "1200", "--rate", "50") as source:
        config = rig.write_config(
            tmp_path / "bridge.yaml",
            source,
            sinks,
            state=f"sqlite:///{tmp_path / 'state.db'}",
            name=unique,
            source_options={"poll_interval": "100ms"},
            admin={"listen": "127.0.0.1:0"},
            defaults={
                "on_rejected": "dead_letter",
                "dead_letter": {"kind": "file", "path": f"{tmp_path}/{{pipeline}}"},
            },
        )
        with rig.BridgeWithAdmin(config, tmp_path / "bridge.log") as bridge:
            url = bridge.admin_url
            bridge.until(
                lambda: all(one["caught_up"] for one in rig.get_json(f"{url}/api/status")["pipelines"].values()),
                "all have caught up",
            )
            with ThreadPoolExecutor(3) as at_once:
                told = dict(zip(sinks, at_once.map(lambda name: verified(config, name), sinks), strict=True))
            status = rig.get_json(f"{url}/api/status")

    assert {one["state"] for one in status["pipelines"].values()} == {"running"}
    assert {name: one["retries"] for name, one in status["pipelines"].items()} == dict.fromkeys(sinks, 0)
    for name, view in told.items():
        apart = view["trimmed"] + view["dead-lettered"]
        assert view["compared"] >= 1_200, name
        assert view["matched"] + apart == view["compared"], name
        assert (view["trimmed"] > 0) == (name in ("trimmed", "expiring")), name
        assert (view["dead-lettered"] > 0) == (name == "letters"), name


def verified(config: Path, pipeline: str) -> dict[str, Any]:
    done = rig.run_command("verify", "-c", str(config), pipeline, "--json")
    assert done.returncode == 0, (pipeline, done.stdout[:2_000], done.stderr)
    view: dict[str, Any] = json.loads(done.stdout)
    return view
