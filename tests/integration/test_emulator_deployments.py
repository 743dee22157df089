"""Several deployments and credentials behind one port, and API v1 in XML."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import planted
from emulated import Api, emulated
from oplogbridge.emulator import Switches
from oplogbridge.emulator.deployments import read_deployments
from oplogbridge.emulator.settings import EmulatorSettings
from oplogbridge.errors import ConfigError

OTHER = "533bda53027894f69b001056"
THIRD = "533bda53027894f69b001057"
MORE = (
    EmulatorSettings(deployment=OTHER, password=planted.PASSWORD, users={"reader": "planted-2"}, entries=3),
    EmulatorSettings(deployment=THIRD, tokens=("planted-3",), entries=5),
)


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def entries(api: Api, path: str, headers: dict[str, str]) -> int:
    """How many there are, or the status of a refusal."""
    reply = await api.ask("GET", path, headers=headers)
    if reply.status != 200:
        return -reply.status
    page = reply.json
    return len(page if isinstance(page, list) else page["entries"])


async def test_each_deployment_has_a_log_and_credentials_of_its_own(tmp_path: Path) -> None:
    async with emulated(tmp_path, password="planted-1", entries=1, more=MORE) as api:
        main = api.emulator.settings.deployment
        logins = {
            main: basic(main, "planted-1"),
            OTHER: basic(OTHER, planted.PASSWORD),
            THIRD: {"Authorization": "Bearer O:planted-3"},
        }
        counts = {
            (path, login): await entries(api, f"/api/v4/{path}/oplog.json", logins[login])
            for path in logins
            for login in logins
        }

        assert {key: count for key, count in counts.items() if count > 0} == {
            (main, main): 1,
            (OTHER, OTHER): 3,
            (THIRD, THIRD): 5,
        }
        assert {count for key, count in counts.items() if key[0] != key[1]} == {-401}
        assert await entries(api, f"/api/v4/{OTHER}/oplog.json", basic("reader", "planted-2")) == 3
        assert await entries(api, "/api/v4/533bda53027894f69b009999/oplog.json", logins[main]) == -404
        # Of v1 the credentials alone say which it is.
        assert [await entries(api, "/api/v1/_oplog.json", login) for login in logins.values()] == [1, 3, 5]


async def test_faults_requests_and_writes_are_each_ones_own(tmp_path: Path) -> None:
    async with emulated(tmp_path, more=(EmulatorSettings(deployment=OTHER),)) as api:
        await api.ask("POST", f"/_emulator/faults?deployment={OTHER}", data=b'{"kind":"503","count":null}')
        await api.ask("POST", f"/_emulator/workload?entries=4&deployment={OTHER}")

        assert await entries(api, f"/api/v4/{OTHER}/oplog.json", {}) == -503
        assert await entries(api, f"/api/v4/{api.emulator.settings.deployment}/oplog.json", {}) == 0
        state: dict[str, Any] = (await api.ask("GET", f"/_emulator/state?deployment={OTHER}")).json
        assert (state["deployment"], state["entries"], state["requests"]) == (OTHER, 4, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be a mapping of deployments"),
        ("a: {pasword: x}", "a.pasword: unknown key"),
        ("a: {tokens: x}", "a.tokens: must be a list"),
        ("a: 7", "a: must be a mapping"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "deployments.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=said):
        read_deployments(file)


# XML ---------------------------------------------------------------------------------------------------------------


async def test_the_oplog_of_v1_comes_in_xml_with_the_same_content(tmp_path: Path) -> None:
    async with emulated(tmp_path, switches=Switches(gzip=True)) as api:
        await api.made("task", name="Größe <&> \x01", count=3, weight=1.5, urgent=True, tags=["red", "blue"])
        told = (await api.ask("GET", "/api/v1/_oplog.json")).json[0]
        reply = await api.ask("GET", "/api/v1/_oplog.xml")
        tree = ElementTree.fromstring(reply.body)

        assert reply.headers["Content-Type"].startswith("application/xml")
        assert (tree.tag, tree.attrib, [child.tag for child in tree]) == ("oplog", {"type": "array"}, ["entry"])
        entry = tree[0]
        assert entry.findtext("sequence") == str(told["sequence"])
        assert entry.find("sequence").attrib == {"type": "integer"}  # type: ignore[union-attr]
        data = entry.find("data")
        assert data is not None
        assert data.findtext("name") == "Größe <&> \ufffd"
        assert (data.findtext("count"), data.findtext("weight")) == ("3", "1.5")
        assert [one.text for one in data.find("tags") or ()] == [str(one) for one in told["data"]["tags"]]
        assert data.keys() == []


async def test_objects_of_v1_come_in_xml_by_their_names_where_the_path_or_accept_asks_for_it(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", name="Paint")
        many = ElementTree.fromstring((await api.ask("GET", "/api/v1/task.xml")).body)
        one = await api.ask("GET", f"/api/v1/task/{made['id']}", headers={"Accept": "application/xml"})
        json_wins = await api.ask("GET", f"/api/v1/task/{made['id']}.json", headers={"Accept": "application/xml"})
        missing = await api.ask("GET", "/api/v1/task/00000000-0000-4000-8000-000000000000.xml")
        v4 = await api.ask("GET", "objects/task.json", headers={"Accept": "application/xml"})

        assert [many.tag, *[child.tag for child in many]] == ["tasks", "task"]
        assert ElementTree.fromstring(one.body).findtext("name") == "Paint"
        assert json_wins.json["name"] == "Paint"
        assert (missing.status, missing.body) == (404, b"")
        assert v4.json["count"] == 1, "v4 supports JSON only, as documented"
