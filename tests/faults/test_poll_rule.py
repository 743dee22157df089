"""The source's rule, whatever happens to instances: at most one poll an interval, by the source's own log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import rig
from services import RedisServer

LEASE = {"lease_ttl": "2s"}


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_the_source_sees_one_poll_a_second_over_pipelines_faults_and_takeovers(
    tmp_path: Path, store: str, own_redis: Callable[..., RedisServer]
) -> None:
    """Two pipelines, a burst of faults, a kill with a take-over, and a drain: the emulator's log is the judge."""
    state = f"sqlite:///{tmp_path / 'state.db'}" if store == "sqlite" else own_redis().url
    with rig.emulator("--entries", "1500", "--rate", "50") as source:
        sinks = {name: {"kind": "file", "path": str(tmp_path / f"{name}.jsonl")} for name in ("one", "two")}
        config = rig.write_config(
            tmp_path / "c.yaml", source, sinks, state=state, source_options={"poll_interval": "1s"}, **LEASE
        )
        with rig.bridge(config, tmp_path / "a.log") as a, rig.bridge(config, tmp_path / "b.log") as b:
            a.start()
            a.until(lambda: len(source.polls()) >= 2, "two polls")
            for kind in ("500", "cut", "429"):
                source.fault(kind=kind)
            a.until(lambda: len(source.polls()) >= 6, "polls through the faults")
            b.start()
            b.logged("waiting for the lease")
            a.kill()
            b.logged("pipeline open")
            seen = len(source.polls())
            b.until(lambda: len(source.polls()) >= seen + 2, "polls of the successor")
            b.signal(signal.SIGTERM)
            assert b.exited(rig.WITHIN_SECONDS) == 0, b.tail()
        assert rig.early_polls(source.polls(), 1.0) == []
        assert all(poll["status"] in (200, 429, 500, 0) for poll in source.polls())
