"""Kafka's jars by Maven, a formatted data directory and a class archive: made once, kept under `.services/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from services.process import MissingServer, ServerFailed

SERVICES_DIR = Path(os.environ.get("OPLOG_BRIDGE_SERVICES_DIR", Path(__file__).parents[2] / ".services")).resolve()
NODE_ID = 1
# What the storage is formatted with and every broker has in common.
FORMAT_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": str(NODE_ID),
    "controller.listener.names": "CONTROLLER",
}

_POM = Path(__file__).with_name("pom.xml")
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
_JDK_MAJOR_MIN = 17
_HOW_TO_INSTALL = "apt-get install default-jdk-headless maven, then `make services-install`"
_STEP_WITHIN_SECONDS = 600
# A user of the SASL listener (kafka_security.py) stands in the storage from the first start on.
USERNAME, PASSWORD = "bridge", "bridge-secret"
_CLUSTER_ID = "b3Bsb2ctYnJpZGdlLXRlcw"  # any 16 bytes in base64
_FORMAT_OPTIONS = ("-t", _CLUSTER_ID, "--add-scram", f"SCRAM-SHA-256=[name={USERNAME},password={PASSWORD}]")


class Installation(NamedTuple):
    java: str
    libs_dir: Path

    @property
    def formatted_dir(self) -> Path:
        return self.libs_dir / "formatted"

    @property
    def class_archive(self) -> Path:
        """Halves the start. Named after the JVM that wrote it, since no other can use it."""
        java = Path(self.java).resolve()
        return self.libs_dir / f"classes-{zlib.crc32(f'{java}:{java.stat().st_mtime_ns}'.encode()):08x}.jsa"

    def broker_command(
        self, properties: Path, *, heap_max: str, archive_into: Path | None = None, options: Sequence[str] = ()
    ) -> list[str]:
        options = [*options, f"-Xmx{heap_max}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
        if archive_into is not None:
            options.append(f"-XX:ArchiveClassesAtExit={archive_into}")
        elif self.class_archive.exists():
            options.append(f"-XX:SharedArchiveFile={self.class_archive}")
        return [self.java, *options, "-cp", self._class_path(), "kafka.Kafka", str(properties)]

    def storage_tool(self, *arguments: str) -> list[str]:
        return [self.java, "-XX:TieredStopAtLevel=1", "-cp", self._class_path(), "kafka.tools.StorageTool", *arguments]

    def _class_path(self) -> str:
        # An explicit, sorted list: the class archive is refused for a wildcard or another order.
        return os.pathsep.join(str(jar) for jar in sorted(self.libs_dir.glob("*.jar")))


def installed() -> Installation:
    """The installation, made now if it isn't there (about 20 s and 45 MB the first time)."""
    java = java_command()
    # What it is made from is part of the name, so that a new version of Kafka is a new directory.
    made_from = zlib.crc32(_POM.read_bytes() + repr(_FORMAT_OPTIONS).encode())
    installation = Installation(java, SERVICES_DIR / f"kafka-libs-{made_from:08x}")
    if not installation.libs_dir.exists():
        _check_jdk(java)
        _fetch(_POM, installation.libs_dir, lambda made: _format(installation._replace(libs_dir=made)))
    return installation


def java_command() -> str:
    java = shutil.which("java")
    if java is None:
        raise MissingServer(f"this needs a JDK >= {_JDK_MAJOR_MIN}: {_HOW_TO_INSTALL}")
    return java


def with_jars(pom: Path, name: str) -> Path:
    """A directory with the jars that `pom` names, fetched now if it isn't there."""
    libs_dir = SERVICES_DIR / f"{name}-{zlib.crc32(pom.read_bytes()):08x}"
    if not libs_dir.exists():
        _check_jdk(java_command())
        _fetch(pom, libs_dir)
    return libs_dir


def _fetch(pom: Path, libs_dir: Path, finish: Callable[[Path], None] = lambda _: None) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingServer(f"the jars come by Maven: {_HOW_TO_INSTALL}")
    SERVICES_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SERVICES_DIR, prefix="installing-") as temporary:
        made = Path(temporary) / "libs"
        run([maven, "-q", "-B", "-f", str(pom), _COPY_DEPENDENCIES, f"-DoutputDirectory={made}"])
        finish(made)
        try:
            made.rename(libs_dir)  # whole or not at all
        except OSError:
            if not libs_dir.exists():  # otherwise somebody else was quicker, and that is as good
                raise


def _format(installation: Installation) -> None:
    properties = installation.libs_dir / "format.properties"
    settings = {
        **FORMAT_PROPERTIES,
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:1",  # required, and not kept: brokers say their own
        "listeners": "PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1",
        "log.dirs": str(installation.formatted_dir),
    }
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    run(installation.storage_tool("format", "-c", str(properties), *_FORMAT_OPTIONS))


def _check_jdk(java: str) -> None:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr  # `version "17.0.15"`
    version = said.split('"')[1] if '"' in said else "0"
    if int(version.split(".")[0].split("-")[0]) < _JDK_MAJOR_MIN:
        raise MissingServer(f"this needs a JDK >= {_JDK_MAJOR_MIN}, the one here is {version}: {_HOW_TO_INSTALL}")


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_STEP_WITHIN_SECONDS, check=False)
    if done.returncode:
        raise ServerFailed(f"{command[0]} ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
