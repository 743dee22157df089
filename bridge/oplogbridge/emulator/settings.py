"""What can be set. The command `oplog-bridge emulator` has one option for each field, tests pass them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oplogbridge.emulator.switches import Switches

ENVIRONMENT_PREFIX = "OPLOG_EMULATOR_"  # each option also from the environment: OPLOG_EMULATOR_LISTEN, ..._ENTRIES
LISTEN_DEFAULT = "127.0.0.1:8800"  # of the command; in process any free port will do
DEPLOYMENT_DEFAULT = "533bda53027894f69b001055"  # the one of the vendor's own examples
DATAMODEL_HASH_DEFAULT = "d9cca721a735dac4efe709e0f3518373"


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    listen: str = "127.0.0.1:0"  # port 0: a free one
    origin: str | None = None  # how clients reach it, http://HOST:PORT, for the URLs it gives; None: as it listens
    deployment: str = DEPLOYMENT_DEFAULT
    username: str | None = None  # default: the deployment's id, as at the vendor
    password: str | None = field(default=None, repr=False)  # neither password nor tokens: every request is let in
    tokens: tuple[str, ...] = field(default=(), repr=False)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # further names, and their passwords
    data: Path | str = "memory"  # or the path of a SQLite file, which keeps the log over restarts
    seed: int = 0
    entries: int = 0  # of the workload, written at start into an empty log
    entry_bytes: int | None = None  # every entry exactly so long, for benchmarks; None: lengths as life brings them
    rate: float = 0.0  # entries a second that the workload goes on writing
    load: Path | None = None  # JSON Lines, played as a log at start into an empty log
    faults: Path | None = None  # a JSON array of faults
    model: Path | None = None  # the data model, YAML or the vendor's JSON; None: that of the workload
    switches: Switches = field(default_factory=Switches)
    requests_per_second: float | None = None  # the vendor's rate limit; None: off
    request_burst: int = 10
    more: tuple[EmulatorSettings, ...] = ()  # further deployments behind the same port
    datamodel_hash: str | None = None  # None: the vendor's example, or that of the model which is given


def split_listen(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8800` or `[::1]:8800`. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{listen!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)
