"""What in a Redis server's own settings breaks a promise sooner or later. Pure."""

from __future__ import annotations

NOT_ALLOWED = "its settings were not looked at: `+info` would let `check --connect` do so"


def cautions_of(info: str, *, wait_replicas: int | None) -> list[str]:
    """`info` is the answer to INFO. `wait_replicas` is the sink's; None where nothing can wait, as in a state store."""
    told = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    found = []
    policy = told.get("maxmemory_policy", "noeviction")
    if told.get("maxmemory", "0") != "0" and policy != "noeviction":
        found.append(f"maxmemory-policy {policy} evicts what the bridge keeps: set noeviction")
    if told.get("aof_enabled") == "0":
        found.append("no append-only file: a restart forgets what came after the last snapshot: set appendonly yes")
    if told.get("connected_slaves", "0") != "0" and wait_replicas == 0:
        found.append("it has replicas, and a fail-over may lose what they lack: set `wait_replicas: 1`")
    return found
