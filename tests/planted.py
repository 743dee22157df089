"""The passwords and tokens of the whole suite. No test's output or log may show one: conftest.py looks."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

PASSWORD = "s3cret-passw0rd"
SECRETS = (
    PASSWORD,
    "bridge-secret",  # Kafka's login
    "key-secret",  # of a client certificate's key
    "not-the-secret",
    "correct-horse",
    "wrong-battery",
    "hunter2",
    base64.b64encode(bytes(range(32))).decode(),  # webhooks are signed with these
    base64.b64encode(bytes(range(32, 64))).decode(),
)
LOG_BYTES_MAX = 32 * 1024 * 1024  # of a log that is looked through


def shown_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def shown_in_logs(folder: Path) -> list[str]:
    """Of a test's own processes."""
    return [f"{found} in {log.name}" for log in _logs(folder) for found in shown_in(_text(log))]


def _logs(folder: Path) -> Iterable[Path]:
    return (log for log in folder.glob("*.log") if log.is_file())


def _text(log: Path) -> str:
    with log.open("rb") as file:
        return file.read(LOG_BYTES_MAX).decode(errors="replace")
