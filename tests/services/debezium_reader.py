"""Debezium's and Kafka Connect's own classes as readers of our payloads: jars by Maven, a program of one Java file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.kafka_install import java_command, with_jars
from services.process import ServerFailed

_FOLDER = Path(__file__).with_name("debezium")
_WITHIN_SECONDS = 120


def installed() -> Path:
    """The directory of the jars, fetched now if they aren't there. Raises MissingServer."""
    return with_jars(_FOLDER / "pom.xml", "debezium-libs")


def read(payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """What `ReadsDebezium.java` says of each payload, none of which may hold a line break.

    Raises:
        MissingServer: There is no JDK, or no Maven to fetch the jars with (24 MB, once).
        ServerFailed: A payload is not what these classes read.
    """
    java = java_command()
    class_path = os.pathsep.join(str(jar) for jar in sorted(installed().glob("*.jar")))
    options = ["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    done = subprocess.run(
        [java, *options, "-cp", class_path, str(_FOLDER / "ReadsDebezium.java")],
        input=b"".join(payload + b"\n" for payload in payloads),
        capture_output=True,
        timeout=_WITHIN_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ServerFailed(f"Debezium's classes refuse a payload:\n{done.stderr.decode(errors='replace')[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]
