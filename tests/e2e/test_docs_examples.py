"""Every example in the documents is run, loaded or compared: each block of code is claimed by the test that does it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import textwrap
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

import rig
from oplogbridge.attachments.references import Reference, Told, with_attachments
from oplogbridge.attachments.store import AttachmentStore
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.payloads import Format
from oplogbridge.codec.subjects import Filter
from oplogbridge.config import from_data, load
from oplogbridge.emulator.datamodel import load_datamodel
from oplogbridge.emulator.deployments import read_deployments
from oplogbridge.emulator.server import Emulator
from oplogbridge.errors import ConfigError
from oplogbridge.source.decode import PageDecoder
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.emulator import running_emulator
from oplogbridge_sinks.kafka.rights import permissions

ROOT = rig.ROOT
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LOGIN = {"OPLOG_USER": "533bda53027894f69b001055", "OPLOG_PASSWORD": "correct-horse"}
LOGIN |= {"FIELDS_SECRET": "sixteen or more!"}

# Document to who looks at its blocks, in their order: a test below, or a file that has the example in it.
CLAIMED: dict[str, list[str]] = {
    "README.md": ["tests/e2e/test_readme.py"] * 7,
    "CONTRIBUTING.md": ["test_contributing_names_targets_of_the_makefile"],
    "docs/architecture.md": ["a drawing"],
    "docs/attachments.md": ["test_attachments_are_told_like_that"] * 2,
    "docs/configuration.md": ["test_the_first_configuration_loads", "test_the_mistakes_are_said_like_that"],
    "docs/emulator.md": [
        "test_the_emulator_answers_as_its_page_says",
        "test_the_further_deployments_are_taken",
        "test_the_data_model_is_taken",
        "test_the_faults_are_taken",
        "test_the_emulator_as_a_fixture",
        "test_the_emulator_in_python",
    ],
    "docs/formats.md": [
        "test_the_formats_look_like_that",
        "test_binary_mode_looks_like_that",
        "test_the_formats_look_like_that",
        "test_the_formats_look_like_that",
        "test_the_fields_load",
    ],
    "docs/operations.md": ["tests/e2e/test_offsets_exchange.py"],
    "docs/redis.md": ["tests/unit/test_redis_address.py"] * 2,
    "docs/replay.md": ["tests/e2e/test_runbook.py"] * 3,
    "docs/runbook.md": ["tests/e2e/test_runbook.py"] * 10,
    "docs/sinks.md": ["test_the_kafka_acls_are_the_rights_that_check_prints"],
    "docs/verify.md": ["tests/e2e/test_verify.py"],
    "docs/writing-a-sink.md": ["test_the_entry_point_is_one"],
}


def blocks(document: str, language: str | None = None) -> list[str]:
    found = BLOCK.findall((ROOT / document).read_text())
    return [textwrap.dedent(text) for name, text in found if language in (None, name)]


def test_every_block_of_every_document_is_claimed() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("examples/*.md")]
    there = {str(path.relative_to(ROOT)): len(blocks(str(path.relative_to(ROOT)))) for path in documents}

    assert {name: count for name, count in there.items() if count} == {name: len(by) for name, by in CLAIMED.items()}
    for by in {one for claims in CLAIMED.values() for one in claims}:
        assert by == "a drawing" or by in globals() or (ROOT / by).exists(), by


def test_contributing_names_targets_of_the_makefile() -> None:
    (block,) = blocks("CONTRIBUTING.md")
    targets = {word for line in block.splitlines() for word in line.partition("#")[0].split()[1:]}

    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets
    assert targets <= made


def test_the_first_configuration_loads(tmp_path: Path) -> None:
    path = tmp_path / "oplog-bridge.yaml"
    path.write_text(blocks("docs/configuration.md", "yaml")[0])

    assert load([path], LOGIN).settings.pipelines["shop-to-file"].sink.kind == "file"


def test_the_mistakes_are_said_like_that() -> None:
    configuration = yaml.safe_load(blocks("docs/configuration.md", "yaml")[0])
    configuration["sources"]["shop"]["page_limit"] = 5000
    configuration["pipelines"]["shop-to-file"]["sorce"] = "shop"
    configuration["pipelines"]["again"] = {"source": "shop", "sink": {"kind": "kafak"}}

    with pytest.raises(ConfigError) as wrong:
        from_data(configuration, LOGIN, title="oplog-bridge.yaml")

    (shown,) = blocks("docs/configuration.md", "")
    for said, expected in zip(str(wrong.value).splitlines(), shown.splitlines(), strict=True):
        assert re.fullmatch(re.escape(expected).replace("…", ".*"), said), (said, expected)


def test_the_emulator_answers_as_its_page_says() -> None:
    (block,) = blocks("docs/emulator.md", "sh")
    command, _, request = block.replace("\\\n", " ").strip().partition("\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "oplogbridge", *command.split()[1:], "--listen", "127.0.0.1:0"],
        env=rig.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        root = process.stdout.readline().split()[1].partition("/api/")[0]
        asked = subprocess.run(
            ["sh", "-c", request.replace("http://127.0.0.1:8800", root).replace("curl ", "curl -sS ")],
            capture_output=True,
            check=True,
            text=True,
        )
    finally:
        process.terminate()
        process.communicate()
    assert len(json.loads(asked.stdout)["entries"]) == 5


def test_the_data_model_is_taken(tmp_path: Path) -> None:
    _, block = blocks("docs/emulator.md", "yaml")
    file = tmp_path / "model.yaml"
    file.write_text(block)

    model = load_datamodel(file)

    assert model.models["user"].has_many["tasks"].inverse_of == "owner"
    assert model.models["task"].fields["photo"].type == "photo"


async def test_the_faults_are_taken(tmp_path: Path) -> None:
    (block,) = blocks("docs/emulator.md", "json")
    file = tmp_path / "faults.json"
    file.write_text(block)

    async with Emulator(password="secret", clock=ManualClock(), faults=file) as emulator:
        assert len(emulator.faults) == len(json.loads(block))


def test_the_emulator_as_a_fixture() -> None:
    block, _ = blocks("docs/emulator.md", "python")

    def read(url: str) -> None:
        for status in (503, 503, 200):
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{url}/oplog.json") as answer:
                assert answer.status == status

    scope: dict[str, Any] = {"read": read}
    exec(block.replace("    ...  # read", "    read(oplog_emulator.url)  # read"), scope)

    with running_emulator() as control:
        scope["test_my_consumer_survives_an_outage"](control)
        assert control.state()["entries"] == 1


async def test_the_emulator_in_python() -> None:
    _, block = blocks("docs/emulator.md", "python")
    clock = ManualClock()

    async def poll(emulator: Emulator) -> None:
        login = {"Authorization": aiohttp.encode_basic_auth(emulator.settings.deployment, "secret")}
        async with aiohttp.ClientSession(headers=login) as session:
            for _ in range(3):
                async with session.get(f"{emulator.url}/oplog.json?start=0") as answer:
                    await answer.read()
                clock.advance(1.0)

    code = "async def example():\n" + textwrap.indent(
        block.replace("    ...  #", "    await poll(emulator)  #"), "    "
    )
    scope: dict[str, Any] = {"Emulator": Emulator, "manual_clock": clock, "poll": poll}
    exec(code, scope)
    await scope["example"]()


def documented_event(format: Format, **more: Any) -> Any:  # noqa: A002
    """The entry of docs/formats.md."""
    page = {
        "entries": [
            {
                "sequence_id": "6112271540663877633",
                "operation": "update",
                "events": [],
                "object": {"id": "33a1", "type": "user", "updated_at": "2015-02-05T08:15:17Z", "name": "Joe"},
            }
        ],
        "has_more": False,
        "next_request_start": "6112271540663877634",
        "datamodel_hash": "d9cca7…",
    }
    decoded = PageDecoder().decode(json.dumps(page, ensure_ascii=False).encode(), 0)
    (event,) = Codec(source="shop", format=format, filter=Filter("shop"), **more).events(decoded)
    return event


def test_the_formats_look_like_that() -> None:
    formats: tuple[Format, ...] = ("cloudevents", "flat", "debezium")
    for shown, format_ in zip(blocks("docs/formats.md", "json"), formats, strict=True):
        assert json.loads(documented_event(format_).payload) == json.loads(shown), format_


def test_binary_mode_looks_like_that() -> None:
    (block,) = blocks("docs/formats.md", "")
    headers, _, payload = block.partition("\n\n")
    shown = dict(re.findall(r"([A-Za-z_-]+): (\S+)", headers))

    event = documented_event("cloudevents", binary="ce_")

    assert {name: value.decode() for name, value in event.headers} == shown
    assert event.payload.decode().startswith(payload.partition("{…")[0])


def test_the_fields_load(tmp_path: Path) -> None:
    configuration = yaml.safe_load(blocks("docs/configuration.md", "yaml")[0])
    configuration["pipelines"]["shop-to-file"] |= yaml.safe_load(blocks("docs/formats.md", "yaml")[0])

    fields = from_data(configuration, LOGIN).settings.pipelines["shop-to-file"].fields
    assert fields["user"].drop == ("email", "address.street")


def test_the_kafka_acls_are_the_rights_that_check_prints() -> None:
    (block,) = blocks("docs/sinks.md", "sh")
    granted = {
        f"{', '.join(re.findall('--operation ([A-Za-z]+)', line))} on {kind.replace('-', ' ')} {name}"
        for line in block.splitlines()
        for kind, name in re.findall(r"--(transactional-id|topic) (\S+)", line)
    }

    needed = permissions(
        "oplog-bridge.shop-to-kafka", "oplog-bridge.shop-to-kafka.checkpoint", "oplog.shop", "oplog.shop", create=False
    )
    assert granted == set(needed)


def test_the_entry_point_is_one() -> None:
    (block,) = blocks("docs/writing-a-sink.md", "toml")

    named = tomllib.loads(block)["project"]["entry-points"]["oplogbridge.sinks"]
    assert named == {"acme": "acme_sink:plugin"}
    assert "oplogbridge.sinks" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


def test_attachments_are_told_like_that() -> None:
    """The configuration loads, and its pipeline tells of a photo in these words."""
    source = {"url": "https://run.journeyapps.com/api/v4/533bda53027894f69b001055"}
    configuration = yaml.safe_load(blocks("docs/attachments.md", "yaml")[0])
    wanted = from_data({"sources": {"shop": source}} | configuration).settings.pipelines["shop-to-kafka"].attachments
    told = json.loads("{" + blocks("docs/attachments.md", "json")[0] + "}")["attachments"][0]
    assert wanted is not None
    id_ = told["id"]
    one = Reference(id_, "inspection", "1", told["field"], "uploaded")
    entry = PageDecoder().decode(b'{"entries":[{"sequence":7,"operation":"create","object":{"id":"1","type":"x"}}]}', 0)
    known = Told("uploaded", told["media_type"], told["length"], told["sha256"])
    shown = with_attachments(
        entry.entries[0], [one], {id_: known}, {id_: AttachmentStore(wanted.store).url_of(id_)}, "cloudevents"
    )
    assert shown.unknown is not None
    assert json.loads(bytes(shown.unknown["attachments"])) == [told]


def test_the_further_deployments_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "deployments.yaml"
    file.write_text(blocks("docs/emulator.md", "yaml")[0])

    first, second = read_deployments(file)

    assert (first.deployment, first.password, first.users) == (
        "533bda53027894f69b001056",
        "secret",
        {"reader": "another-secret"},
    )
    assert (second.tokens, second.data, second.model) == (("t0ken",), tmp_path / "second.db", tmp_path / "model.yaml")
