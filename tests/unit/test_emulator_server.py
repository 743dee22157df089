"""The emulator over HTTP: who is let in, what is answered, what goes wrong on order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from oplogbridge.emulator import Emulator, EmulatorSettings, Switches, serve
from oplogbridge.emulator.settings import split_listen
from oplogbridge.errors import ConfigError
from oplogbridge.testing.clock import ManualClock

VENDORS_EXAMPLE = (
    b'{"sequence":6009123137931706000,"operation":"update","events":[],"object":{"id":"42059e2e-d2a2-11e3-a9f3-001e6733fe3c","type":"task","updated_at":"2014-05-03T09:06:48Z","name":"First Task","instructions":"Update me","status":null,"category_id":null}}',  # noqa: E501
    b'{"sequence":6112271540663878000,"operation":"create","events":[],"object":{"id":"1e47acd2-ad0f-11e4-8513-001e6733fe3c","type":"user","updated_at":"2015-02-05T08:15:17Z","name":"Joe Smith"}}',  # noqa: E501
    b'{"sequence":6112271738232373000,"operation":"update","events":[],"object":{"id":"1e47acd2-ad0f-11e4-8513-001e6733fe3c","type":"user","updated_at":"2015-02-05T08:16:03Z","name":"Bruce Wayne"}}',  # noqa: E501
    b'{"sequence":6112271772592112000,"operation":"create","events":[],"object":{"id":"3e7e18b0-ad0f-11e4-9d6d-001e6733fe3c","type":"user","updated_at":"2015-02-05T08:16:11Z","name":"Tony Stark"}}',  # noqa: E501
    b'{"sequence":6112271910031065000,"operation":"update","events":[],"object":{"id":"71fafc16-ba4f-11e3-8de0-001e6733fe3c","type":"category","updated_at":"2015-02-05T08:16:43Z","name":"Cleaning"}}',
)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content_type: str
    body: bytes


class Client:
    """One keep-alive connection that neither follows redirects nor hides what came."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str, *, authorization: str | None = None, **headers: str) -> Answer:
        if authorization is not None:
            headers["Authorization"] = authorization
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            return Answer(response.status, response.headers, response.content_type, await response.read())

    async def page(self, emulator: Emulator, parameters: str = "") -> dict[str, Any]:
        response = await self.get(f"{emulator.url}/oplog.json?{parameters}")
        assert response.status == 200
        decoded: dict[str, Any] = msgspec.json.decode(response.body)
        return decoded

    async def control(self, emulator: Emulator, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        root = emulator.url.partition("/api/")[0]
        async with self._session.request(method, f"{root}/_emulator/{path}", data=body) as response:
            received = await response.read()
            return response.status, msgspec.json.decode(received) if received else None


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(clock=ManualClock()) as emulator:
        for name in ("Zoë", "Łukasz", "李雷"):
            emulator.append("create", {"id": name, "type": "user", "name": name})
        yield emulator


async def test_the_vendors_five_example_entries_come_back_exactly(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "example.jsonl"
    file.write_bytes(b"\n".join(VENDORS_EXAMPLE))

    async with Emulator(load=file) as emulator:
        response = await client.get(f"{emulator.url}/oplog.json?limit=5&start=0")

        assert response.body == (
            b'{"entries":[' + b",".join(VENDORS_EXAMPLE) + b'],"datamodel_hash":"d9cca721a735dac4efe709e0f3518373"}'
        )


async def test_any_data_set_can_be_played_with_its_own_bytes(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "movie.jsonl"
    file.write_bytes(b'{"id":862,"votes":7.70}\n\n{"title":"Am\\u00e9lie"}\n')

    async with Emulator(load=file) as emulator:
        response = await client.get(f"{emulator.url}/oplog.json")
        first, second = msgspec.json.decode(response.body)["entries"]

        assert b'"votes":7.70' in response.body
        assert (first["object"]["type"], first["object"]["id"]) == ("movie", "862")
        assert b'"title":"Am\\u00e9lie"' in response.body
        assert first["sequence"] < second["sequence"]


async def test_a_line_that_is_not_an_object_is_reported_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_bytes(b'{"id":"1"}\n[]\n{"id":"2"}\n{')

    with pytest.raises(ConfigError, match=r"(?s)2 problems.*line 2.*line 4"):
        await Emulator(load=file).__aenter__()


async def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        await Emulator(load=tmp_path / "none.jsonl").__aenter__()
    with pytest.raises(ConfigError, match="cannot be read"):
        await Emulator(faults=tmp_path / "none.json").__aenter__()


async def test_a_data_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"something else entirely" * 100)

    with pytest.raises(ConfigError, match="not a database"):
        Emulator(data=tmp_path / "log.db")
    with pytest.raises(ConfigError, match="unable to open"):
        Emulator(data=tmp_path / "missing" / "log.db")


async def test_entries_that_are_too_short_are_refused_before_the_port_answers() -> None:
    with pytest.raises(ValueError, match="at least"):
        await Emulator(entry_bytes=10, rate=5).__aenter__()


async def test_appended_entries_are_seen_by_the_next_poll(client: Client, emulator: Emulator) -> None:
    newest = emulator.log.newest
    assert (await client.page(emulator, f"start={newest + 1}"))["entries"] == []

    sequence = emulator.append("delete", b'{"id":"1","type":"user"}')

    assert (await client.page(emulator, f"start={newest + 1}"))["entries"] == [
        {"sequence": sequence, "operation": "delete", "events": [], "object": {"id": "1", "type": "user"}}
    ]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (aiohttp.encode_basic_auth("shop", "secret"), 200),
        ("Bearer O:token-1", 200),
        ("Bearer O:token-2", 200),
        ("Token token-1", 200),
        (aiohttp.encode_basic_auth("shop", "wrong"), 401),
        (aiohttp.encode_basic_auth("other", "secret"), 401),
        ("Basic !!!", 401),
        ("Bearer token-1", 401),
        ("Bearer O:token-3", 401),
        ("Bearer O:", 401),
        ("Digest x", 401),
        (None, 401),
    ],
)
async def test_only_the_right_credentials_are_let_in(client: Client, authorization: str | None, status: int) -> None:
    async with Emulator(username="shop", password="secret", tokens=("token-1", "O:token-2")) as emulator:
        response = await client.get(f"{emulator.url}/oplog.json", authorization=authorization)

        assert response.status == status
        if status == 401:
            assert response.body == b"HTTP Basic: Access denied.\n"


async def test_the_username_is_the_deployment_unless_said_otherwise(client: Client) -> None:
    async with Emulator(password="secret", deployment="abc") as emulator:
        response = await client.get(
            f"{emulator.url}/oplog.json", authorization=aiohttp.encode_basic_auth("abc", "secret")
        )

        assert response.status == 200


def test_secrets_are_not_in_the_repr_of_the_settings() -> None:
    assert "secret" not in repr(EmulatorSettings(password="secret", tokens=("secret",)))


@pytest.mark.parametrize(
    ("path", "status", "type_"),
    [
        ("/api/v4/other/oplog.json", 404, "ACCOUNT_NOT_FOUND"),
        ("/api/v4/533bda53027894f69b001055/nothing.json", 404, "ROUTE_ERROR"),
        ("/api/v4/533bda53027894f69b001055/oplog.json?start=x", 400, "INVALID_API_REQUEST"),
        ("/", 404, "ROUTE_ERROR"),
    ],
)
async def test_errors_are_structured(client: Client, emulator: Emulator, path: str, status: int, type_: str) -> None:
    response = await client.get(emulator.url.partition("/api/")[0] + path)

    error = msgspec.json.decode(response.body)
    assert (response.status, error["type"]) == (status, type_)
    assert set(error) == {"type", "title", "detail", "see"}
    assert error["see"].endswith(f"#{type_}")


async def test_full_pages_are_prepared_and_still_tell_the_truth(client: Client, emulator: Emulator) -> None:
    first = await client.page(emulator, "limit=2&sequence_ids=true")
    assert await client.page(emulator, "limit=2&sequence_ids=true") == first
    assert first["has_more"] is True

    emulator.log.cut_from(int(first["next_request_start"]))

    assert (await client.page(emulator, "limit=2&sequence_ids=true"))["has_more"] is False


async def test_a_deploy_changes_the_hash_of_pages_that_were_prepared(client: Client, emulator: Emulator) -> None:
    before = await client.page(emulator, "limit=2")

    emulator.datamodel_hash = "0" * 32

    after = await client.page(emulator, "limit=2")
    assert (before["entries"], after["datamodel_hash"]) == (after["entries"], "0" * 32)


async def test_pages_are_compressed_when_the_client_takes_it(client: Client) -> None:
    async with Emulator(entries=300) as emulator:
        url = f"{emulator.url}/oplog.json"
        zipped = await client.get(url, **{"Accept-Encoding": "gzip"})
        plain = await client.get(url, **{"Accept-Encoding": "identity"})
        emulator.switch(gzip=False)
        off = await client.get(url, **{"Accept-Encoding": "gzip"})

        assert zipped.body == plain.body == off.body
        assert [r.headers.get("Content-Encoding") for r in (zipped, plain, off)] == ["gzip", None, None]


async def test_the_rate_limit_is_a_bucket_that_fills_with_time(client: Client) -> None:
    clock = ManualClock()
    async with Emulator(clock=clock, requests_per_second=0.5, request_burst=2) as emulator:
        emulator.switch(retry_after=True)
        url = f"{emulator.url}/oplog.json"
        assert [(await client.get(url)).status for _ in range(3)] == [200, 200, 429]

        refused = await client.get(url)
        clock.advance(2.0)

        assert refused.headers["Retry-After"] == "2"
        assert msgspec.json.decode(refused.body)["type"] == "TOO_MANY_REQUESTS"
        assert [(await client.get(url)).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("401", 401, "text/plain"),
        ("429", 429, "application/json"),
        ("500", 500, "application/json"),
        ("502", 502, "text/html"),
        ("503", 503, "text/html"),
        ("html", 200, "text/html"),
        ("302", 302, "application/octet-stream"),
        ("504", 504, "application/octet-stream"),
    ],
)
async def test_another_answer_comes_once(
    client: Client, emulator: Emulator, kind: str, status: int, content_type: str
) -> None:
    emulator.faults.add(kind)

    response = await client.get(f"{emulator.url}/oplog.json")

    assert (response.status, response.content_type) == (status, content_type)
    assert (kind == "504") == (status == 504 and response.body == b"")
    assert len((await client.page(emulator))["entries"]) == 3


async def test_a_fault_can_name_its_headers_and_body(client: Client, emulator: Emulator) -> None:
    emulator.faults.add("429", retry_after_seconds=7, body="slow down")
    emulator.faults.add("302", location="http://127.0.0.1/elsewhere")
    emulator.faults.add("body", body="{", content_type="text/x")
    url = f"{emulator.url}/oplog.json"

    limited, moved, garbage = [await client.get(url) for _ in range(3)]

    assert (limited.headers["Retry-After"], limited.body) == ("7", b"slow down")
    assert moved.headers["Location"] == "http://127.0.0.1/elsewhere"
    assert (garbage.status, garbage.content_type, garbage.body) == (200, "text/x", b"{")


async def test_a_connection_can_be_reset_before_any_answer(client: Client, emulator: Emulator) -> None:
    emulator.faults.add("reset", count=None)

    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await client.get(f"{emulator.url}/oplog.json")

    emulator.faults.clear()
    assert len((await client.page(emulator))["entries"]) == 3
    assert emulator.requests[0].status == 0


async def test_an_answer_can_be_cut_in_the_middle(client: Client, emulator: Emulator) -> None:
    emulator.faults.add("cut", bytes=10)

    with pytest.raises(aiohttp.ClientPayloadError, match="received 10 of"):
        await client.get(f"{emulator.url}/oplog.json")

    assert len((await client.page(emulator))["entries"]) == 3


async def test_a_body_can_end_too_early_in_sound_http(client: Client, emulator: Emulator) -> None:
    whole = (await client.get(f"{emulator.url}/oplog.json")).body
    emulator.faults.add("truncated")

    part = (await client.get(f"{emulator.url}/oplog.json")).body

    assert part == whole[: len(whole) // 2]


@pytest.mark.parametrize("kind", ["slow", "stall"])
async def test_an_answer_can_be_held_until_it_is_released(client: Client, emulator: Emulator, kind: str) -> None:
    emulator.faults.add(kind)
    polling = asyncio.create_task(client.page(emulator))
    await emulator.requests.arrived(1)
    await emulator.faults.holding()
    assert not polling.done()

    emulator.faults.release()

    assert len((await polling)["entries"]) == 3


async def test_an_answer_can_take_its_time_on_the_emulators_clock(client: Client) -> None:
    clock = ManualClock()
    async with Emulator(clock=clock) as emulator:
        emulator.faults.add("slow", seconds=30)
        polling = asyncio.create_task(client.page(emulator))
        await clock.sleeping(1)
        clock.advance(29.9)
        assert clock.asleep == 1

        clock.advance(0.1)

        assert (await polling)["entries"] == []


async def test_a_held_answer_does_not_keep_the_emulator_from_closing(client: Client) -> None:
    emulator = Emulator()
    async with emulator:
        emulator.faults.add("slow")
        polling = asyncio.create_task(client.get(f"{emulator.url}/oplog.json"))
        await emulator.faults.holding()

    with pytest.raises(aiohttp.ClientError):
        await polling
    assert emulator.requests.total >= 1


async def test_faults_can_come_from_a_file(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('[{"kind": "503", "after": 1}, {"kind": "short_page", "entries": 0}]')

    async with Emulator(faults=file, entries=5) as emulator:
        assert (await client.page(emulator))["entries"] == []
        assert (await client.get(f"{emulator.url}/oplog.json")).status == 503


async def test_a_fault_that_is_misspelt_in_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('[{"kind": "sloow"}]')

    with pytest.raises(ConfigError, match="sloow"):
        await Emulator(faults=file).__aenter__()


async def test_every_request_is_on_record_with_its_time(client: Client) -> None:
    clock = ManualClock()
    async with Emulator(clock=clock, entries=10) as emulator:
        await client.page(emulator, "start=5&limit=3")
        clock.advance(1.25)
        emulator.faults.add("500")
        await client.get(f"{emulator.url}/oplog.json")

        first, second = emulator.requests
        assert (first.start, first.limit, first.status, first.entries) == ("5", "3", 200, 3)
        assert (second.start, second.status, second.faults) == (None, 500, ["status"])
        assert emulator.requests.shortest_gap_seconds() == 1.25


async def test_an_outage_keeps_the_log_and_the_port(client: Client, emulator: Emulator) -> None:
    url = emulator.url
    await emulator.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(f"{url}/oplog.json")

    await emulator.start()

    assert emulator.url == url
    assert len((await client.page(emulator))["entries"]) == 3


async def test_a_log_in_a_file_is_not_filled_again(tmp_path: Path) -> None:
    data = tmp_path / "log.db"
    async with Emulator(data=data, entries=50) as emulator:
        emulator.write(5)
        newest = emulator.log.newest

    async with Emulator(data=data, entries=50) as emulator:
        assert (len(emulator.log), emulator.log.newest) == (55, newest)


async def test_the_workload_goes_on_writing_at_its_rate() -> None:
    clock = ManualClock()
    async with Emulator(clock=clock, rate=10) as emulator:
        await clock.run(3.0)
        assert 29 <= len(emulator.log) <= 30

        clock.advance(3600)  # a suspended machine: what it missed is not made up for
        await clock.run(0.0)

        assert len(emulator.log) <= 40


async def test_serve_tells_where_it_is_ready_and_runs_until_cancelled(client: Client) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(EmulatorSettings(entries=3), ready=told.set_result))

    response = await client.get(f"{await told}/oplog.json")
    serving.cancel()

    assert len(msgspec.json.decode(response.body)["entries"]) == 3
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_switch_that_does_not_exist_is_refused(emulator: Emulator) -> None:
    with pytest.raises(msgspec.ValidationError):
        emulator.switch(tail_order="sideways")
    with pytest.raises(msgspec.ValidationError):
        emulator.switch(tail_ordr="descending")

    assert emulator.switches == Switches()


@pytest.mark.parametrize("listen", ["8800", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_not_host_and_port_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_listen(listen)


def test_an_ipv6_host_is_taken_in_brackets() -> None:
    assert split_listen("[::1]:80") == ("::1", 80)


async def test_another_process_can_order_faults_and_take_them_back(client: Client, emulator: Emulator) -> None:
    status, added = await client.control(emulator, "POST", "faults", b'[{"kind":"500","count":null},{"kind":"cut"}]')
    assert (status, added) == (201, {"ids": [1, 2]})
    assert (await client.get(f"{emulator.url}/oplog.json")).status == 500

    await client.control(emulator, "DELETE", "faults/1")

    _, left = await client.control(emulator, "GET", "faults")
    assert [ordered["fault"]["kind"] for ordered in left] == ["cut"]
    await client.control(emulator, "DELETE", "faults")
    assert len((await client.page(emulator))["entries"]) == 3


async def test_another_process_can_append_entries_and_let_the_workload_write(
    client: Client, emulator: Emulator
) -> None:
    lines = b'{"operation":"update","object":{"id":"1","n":1.0}}\n{"id":"2","type":"task"}\n'

    status, appended = await client.control(emulator, "POST", "entries", lines)
    _, written = await client.control(emulator, "POST", "workload?entries=4")

    assert (status, len(appended["sequences"]), len(written["sequences"])) == (201, 2, 4)
    page = await client.page(emulator, f"start={appended['sequences'][0]}&sequence_ids=true")
    assert [e["sequence_id"] for e in page["entries"]] == appended["sequences"] + written["sequences"]


async def test_another_process_can_see_the_state_and_the_requests(client: Client, emulator: Emulator) -> None:
    await client.page(emulator, "limit=1")
    await client.page(emulator, "limit=2")

    _, state = await client.control(emulator, "GET", "state")
    _, record = await client.control(emulator, "GET", "requests?since=1")

    assert (state["entries"], state["newest"], state["requests"]) == (3, str(emulator.log.newest), 2)
    assert record["total"] == 2
    assert [request["limit"] for request in record["requests"]] == ["2"]


async def test_another_process_can_turn_switches(client: Client, emulator: Emulator) -> None:
    status, switches = await client.control(emulator, "PATCH", "switches", b'{"limit_max":2}')

    assert (status, switches["limit_max"]) == (200, 2)
    assert len((await client.page(emulator))["entries"]) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "faults", b'{"kind":"sloow"}'),
        ("POST", "faults", b"{"),
        ("POST", "entries", b"[]"),
        ("POST", "workload?entries=many", b""),
        ("PATCH", "switches", b'{"limit_max":"x"}'),
    ],
)
async def test_a_wrong_order_is_answered_with_its_mistake(
    client: Client, emulator: Emulator, method: str, path: str, body: bytes
) -> None:
    status, error = await client.control(emulator, method, path, body)

    assert (status, error["type"]) == (400, "INVALID_API_REQUEST")
    assert len(emulator.log) == 3
