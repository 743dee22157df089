"""SIGHUP: the configuration is read again. What is the same goes on untouched; a mistake in it changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import structlog

from oplogbridge.assembly import sources_of
from oplogbridge.bridge import Bridge
from oplogbridge.config import Settings, load
from oplogbridge.errors import ConfigError

# Read once, at the start: what everything else hangs on.
FIXED = ("name", "instance", "state", "lease_ttl", "shutdown_timeout", "admin", "log")

_log = structlog.get_logger()


class Reloader:
    """Of one running bridge."""

    def __init__(self, bridge: Bridge, settings: Settings, paths: list[Path], chosen: frozenset[str] | None) -> None:
        self._bridge = bridge
        self._settings = settings
        self._paths = paths
        self._chosen = chosen

    def reload(self) -> None:
        """Takes what the files say now, or says why not and goes on as before."""
        status = self._bridge.status
        if status.stopping:
            return
        try:
            loaded = load(self._paths, os.environ)
            _refuse_fixed(self._settings, loaded.settings)
        except ConfigError as error:
            status.reload_failures += 1
            status.reload_error = str(error)
            _log.error("configuration not reloaded, the former one goes on", error=str(error))
            return
        for warning in loaded.warnings:
            _log.warning("configuration", warning=str(warning))
        before, self._settings = self._settings, loaded.settings
        self._bridge.reload(sources_of(loaded.settings, only_pipelines=self._chosen))
        status.reloads += 1
        status.reload_error = None
        _log.info("configuration reloaded", **_differences(before, loaded.settings))

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """While this lasts, SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)


def _refuse_fixed(before: Settings, now: Settings) -> None:
    changed = [key for key in FIXED if getattr(before, key) != getattr(now, key)]
    if changed:
        raise ConfigError("SIGHUP", [f"{key}: is read at the start only; restart to change it" for key in changed])


def _differences(before: Settings, now: Settings) -> dict[str, list[str]]:
    old, new = before.pipelines, now.pipelines
    changed_sources = {name for name in now.sources if before.sources.get(name) != now.sources[name]}
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(
            name for name in new.keys() & old.keys() if new[name] != old[name] or new[name].source in changed_sources
        ),
    }
