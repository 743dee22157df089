"""What the emulator's `/openapi.json` says holds.

A fuzzer that knows only that document finds no error of the server and no answer outside its schema.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest

import rig
from planted import PASSWORD

EXAMPLES_MAX = 15  # for each operation and phase; some 3,000 requests
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"


def test_no_answer_is_a_500_or_outside_its_schema(tmp_path: Path) -> None:
    seed = rig.seeded("requests").randrange(2**31)
    with rig.emulator("--entries", "50") as emulator:
        command = [str(Path(sys.executable).parent / "st"), "run", f"{emulator.root}/openapi.json"]
        command += ["--auth", f"{emulator.deployment}:{PASSWORD}", "--checks", CHECKS, "--seed", str(seed)]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES_MAX), "--no-color"]
        command += ["--generation-database", "none"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "53 selected" in done.stdout, done.stdout[:2000]


def test_the_document_lists_every_route_of_v4() -> None:
    """A route that is forgotten there would not be tried."""
    from oplogbridge.emulator.app import _TABLE
    from oplogbridge.emulator.openapi import document
    from oplogbridge.emulator.workload_model import WORKLOAD_MODEL

    described = document(WORKLOAD_MODEL, "D", "http://127.0.0.1", 201)["paths"]
    listed = {(method.upper(), path) for path, methods in described.items() for method in methods}
    for method, path, _, _ in _TABLE:
        if path.startswith("/api/v4/"):
            shape = path.replace("{deployment}", "D").replace("{model}", "user")
            assert (method, f"{shape}.json") in listed, path


def test_what_the_document_asks_of_a_write_is_what_is_asked() -> None:
    from oplogbridge.emulator.openapi import document
    from oplogbridge.emulator.workload_model import WORKLOAD_MODEL

    paths = document(WORKLOAD_MODEL, "D", "http://127.0.0.1", 200)["paths"]
    batch = paths["/api/v4/D/batch.json"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    without_id = {"method": "post", "object": {"type": "user"}}

    assert {"200", "201"} & paths["/api/v4/D/objects/user.json"]["post"]["responses"].keys() == {"200"}
    jsonschema_rs.validate(batch, {"operations": [without_id]})
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(batch, {"operations": [without_id | {"method": "patch"}]})
