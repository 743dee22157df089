"""The admin server over a running bridge: who may ask what, when it is ready, and what an operator can have it do."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from admin_world import Admin, running
from oplogbridge.admin.health import PROGRESS_SECONDS_MAX
from oplogbridge.admin.server import AdminServer
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.state import Holder
from oplogbridge.state.memory import MemoryStateStore
from world import SOURCE, PipelineChoice, World, shortest_gap

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
TOKEN = "correct-horse"
JSON = {"Content-Type": "application/json"}


# Probes ------------------------------------------------------------------------------------------------------------


async def test_a_bridge_that_delivers_is_alive_and_ready() -> None:
    async with running() as admin:
        assert (await admin.ask("/livez")).text == "ok\n"
        ready = await admin.ask("/readyz")

    assert (ready.status, ready.json) == (200, {"ready": True, "not_ready": {}})


async def test_a_pipeline_that_stopped_is_not_ready_and_says_why() -> None:
    async with running() as admin:
        await admin.stopped()
        ready = await admin.ask("/readyz")
        assert (await admin.ask("/livez")).status == 200  # a restart would mend nothing

    assert ready.status == 503
    assert "offsets set orders" in ready.json["not_ready"]["orders"]


@pytest.mark.parametrize("where", ["client.poll", "sink.write"])
async def test_no_progress_for_longer_than_the_limit_is_not_ready_and_says_why(where: str) -> None:
    async with running() as admin:
        admin.inside.gate.fail(where, times=10**6, error=Unavailable("the cable is out"))
        admin.world.source.append(1)
        await admin.world.run(PROGRESS_SECONDS_MAX - 5)
        assert (await admin.ask("/readyz")).status == 200
        await admin.world.run(10)
        ready = await admin.ask("/readyz")
        assert ready.status == 503
        assert re.search(r"no progress for 6\d s: ", ready.json["not_ready"]["orders"])

        admin.inside.gate.failures.clear()
        await admin.world.until(lambda: admin.pipeline.offset == 5)
        assert (await admin.ask("/readyz")).status == 200


async def test_a_source_that_is_seen_empty_again_and_again_is_ready() -> None:
    async with running() as admin:
        await admin.world.run(3 * PROGRESS_SECONDS_MAX)

        assert (await admin.ask("/readyz")).status == 200


@pytest.mark.parametrize("answer", ["stale", "empty"])
async def test_a_source_whose_answers_move_nothing_is_not_ready_after_the_limit(answer: str) -> None:
    async with running() as admin:
        source = admin.world.source
        source.append(1)
        stale = source.page(0)  # entries 1 to 3, all delivered, "has_more": a proxy's cache
        empty = b'{"entries":[],"has_more":true,"next_request_start":"4"}'
        source.answers.extend([stale if answer == "stale" else empty] * 1000)

        await admin.world.run(PROGRESS_SECONDS_MAX - 5)
        assert (await admin.ask("/readyz")).status == 200
        await admin.world.run(10)
        ready = await admin.ask("/readyz")
        assert ready.status == 503
        assert re.search(r"no progress for 6\d s: ", ready.json["not_ready"]["orders"])

        source.answers.clear()
        await admin.world.until(lambda: admin.pipeline.offset == 5)
        assert (await admin.ask("/readyz")).status == 200


async def test_an_instance_that_waits_for_the_lease_is_ready() -> None:
    async with World() as world:
        other = MemoryStateStore(world.clock, world.memory)
        await other.open()
        await other.acquire(SOURCE, Holder("the other", "elsewhere", 1, None), 10**6)
        admin = Admin(world)
        admin.url = await admin.server.start()
        task = asyncio.create_task(admin.bridge.run())
        await world.run(10 * PROGRESS_SECONDS_MAX)

        assert admin.pipeline.state == "waiting"
        assert (await admin.ask("/readyz")).json == {"ready": True, "not_ready": {}}
        admin.bridge.stop()
        await task
        await admin.server.close()


# Metrics -----------------------------------------------------------------------------------------------------------


async def test_the_metrics_and_their_labels_are_those_that_the_operations_page_lists() -> None:
    listed: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`oplog_bridge_.*)", OPERATIONS.read_text(), re.MULTILINE):
        names, labels, _ = row.split("|", 2)
        for name in re.findall(r"`([a-z_…]+)`", names):
            listed[name.replace("…", "oplog_bridge")] = set(labels.strip(" –").split(", ")) - {""}

    async with running() as admin:
        scraped = await admin.ask("/metrics")

    assert scraped.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    served = {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels) - {"le"}
        for family in text_string_to_metric_families(scraped.text)
        if family.name.startswith("oplog_bridge_") and not family.name.endswith("_created")  # a part of the histogram
    }
    assert served.keys() == listed.keys()
    assert {name for name in served if not listed[name] <= served[name]} == set()


async def test_the_metrics_count_what_was_delivered() -> None:
    async with running() as admin:
        text = (await admin.ask("/metrics")).text

    samples = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples if s.value}
    assert samples["oplog_bridge_events_delivered_total"] == 3
    assert samples["oplog_bridge_offset"] == 4
    assert samples["oplog_bridge_lease_held"] == 1
    assert samples["oplog_bridge_poll_seconds_count"] == samples["oplog_bridge_polls_total"]


# The page and the API ----------------------------------------------------------------------------------------------


async def test_the_page_shows_names_and_errors_as_text_and_runs_nothing() -> None:
    async with running(PipelineChoice("<script>alert(1)</script>")) as admin:
        admin.bridge.status.instance = '"><img src=x>'
        admin.pipeline.error = "<b>bold</b> & so on"
        page = await admin.ask("/")

    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"<(script|img|b)\b", page.text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; so on" in page.text


async def test_the_status_holds_offsets_as_text() -> None:
    async with running() as admin:
        pipeline = (await admin.ask("/api/status")).json["pipelines"]["orders"]

    assert (pipeline["offset"], pipeline["position"], pipeline["state"]) == ("4", "4", "running")


async def test_a_tail_goes_through_the_holder_and_its_pace() -> None:
    async with running() as admin:
        tail = await admin.meanwhile(admin.ask(f"/api/sources/{SOURCE}/page?tail=1"))
        page = await admin.meanwhile(admin.ask(f"/api/sources/{SOURCE}/page?offset=2"))
        times = admin.world.source.poll_times

    assert [entry["sequence"] for entry in tail.json["entries"]] == ["1", "2", "3"]
    assert [entry["sequence"] for entry in page.json["entries"]] == ["2", "3"]
    assert shortest_gap(times) >= 1.0


@pytest.mark.parametrize("asked", ["page?tail=1", "page?offset=777", "start?at=latest"])
@pytest.mark.parametrize("source_says", ["the cable is out", None])
async def test_what_the_source_does_not_answer_in_time_is_given_up_with_its_reason(
    asked: str, source_says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oplogbridge.admin.server.ASK_SECONDS_MAX", 0.1)
    async with running() as admin:
        hold = admin.inside.gate.hold("client.poll")
        await admin.world.until(lambda: hold.is_reached)  # by the pipeline: whoever asks now waits for a turn
        if source_says is not None:
            admin.inside.gate.fail("client.poll", error=Unavailable(source_says))
            hold.release()
            await admin.world.run(0)

        answer = await admin.ask(f"/api/sources/{SOURCE}/{asked}")
        assert answer.status == 409
        assert (source_says or "did not answer in time: try again") in answer.json["error"]

        hold.release()
        admin.world.source.append(1)
        await admin.world.until(lambda: admin.pipeline.offset == 5)
        await admin.world.run(20)
        assert admin.world.source.tails == 0  # nobody waits for that any more
        assert 777 not in admin.world.source.poll_offsets


@pytest.mark.parametrize(("at", "offset"), [("latest", "4"), ("earliest", "0"), ("17", "17")])
async def test_a_start_is_resolved_by_the_holder(at: str, offset: str) -> None:
    async with running() as admin:
        answer = await admin.meanwhile(admin.ask(f"/api/sources/{SOURCE}/start?at={at}"))

    assert answer.json == {"offset": offset}


async def test_what_makes_no_sense_is_refused_with_what_is_allowed() -> None:
    async with running() as admin:
        for path in (f"/api/sources/{SOURCE}/page?offset=-1", f"/api/sources/{SOURCE}/page", "/api/sources/shop/start"):
            answer = await admin.ask(path)
            assert answer.status == 400, path
            assert answer.json["error"]
        assert (await admin.ask("/api/sources/another/page?tail=1")).status == 409
        for offset in (17, "-1", "x", "9223372036854775809", None):
            assert (await admin.set_offset(offset)).status == 400
        assert (await admin.ask("/api/pipelines/orders/offset", "PUT", data=b"[]", headers=JSON)).status == 400


# Moving an offset --------------------------------------------------------------------------------------------------


async def test_the_offset_of_a_stopped_pipeline_is_moved_and_it_goes_on_at_once() -> None:
    async with running() as admin:
        await admin.stopped()
        admin.world.source.append(2)
        moved_at = admin.world.clock.monotonic()

        answer = await admin.set_offset("5")
        await admin.world.until(lambda: admin.pipeline.offset == 6)

        assert answer.json == {"before": "4", "now": "5"}
        assert admin.world.clock.monotonic() - moved_at < 5  # not after the half minute of a stopped pipeline
        assert admin.world.sequences == [1, 2, 3, 5]
        assert (await admin.ask("/readyz")).status == 200


async def test_the_offset_of_a_running_pipeline_is_left_alone() -> None:
    async with running() as admin:
        answer = await admin.set_offset("2")
        await admin.world.run(10)

        assert answer.status == 409
        assert "stop the instance that runs it" in answer.json["error"]
        assert (await admin.ask("/api/pipelines/another/offset", "PUT", json={"offset": "1"})).status == 409
        assert admin.world.sequences == [1, 2, 3]


# Who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8090", "[::1]", "[::1]:8090", "127.0.0.2:1"])
async def test_a_loopback_name_may_ask(host: str) -> None:
    async with running() as admin:
        assert (await admin.ask("/api/status", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8090", "127.0.0.1.evil.example", "127.evil.example:8090", "localhost.evil"]
)
async def test_another_sites_name_that_resolves_to_us_is_refused(host: str) -> None:
    async with running() as admin:
        for path in ("/", "/api/status", f"/api/sources/{SOURCE}/page?tail=1"):
            assert (await admin.ask(path, headers={"Host": host})).status == 403
        assert (await admin.ask("/livez", headers={"Host": host})).status == 200


async def test_a_change_from_another_sites_page_is_refused() -> None:
    async with running() as admin:
        await admin.stopped()
        path, body = "/api/pipelines/orders/offset", b'{"offset": "1"}'
        for headers in (JSON | {"Origin": "https://evil.example"}, {"Content-Type": "text/plain"}):
            assert (await admin.ask(path, "PUT", data=body, headers=headers)).status == 403

        assert admin.pipeline.state == "stopped"


async def test_beyond_loopback_everything_but_the_probes_needs_the_token() -> None:
    async with running(loopback=False, token=TOKEN) as admin:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer ü"}):
            for path in ("/", "/api/status"):
                assert (await admin.ask(path, headers=headers)).status == 401
            assert (await admin.set_offset("1", headers=headers)).status == 401
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await admin.ask(path)).status == 200
        allowed = {"Authorization": f"Bearer {TOKEN}", "Host": "bridge.internal:8090"}
        assert (await admin.ask("/api/status", headers=allowed)).status == 200


async def test_beyond_loopback_and_without_a_token_there_are_only_the_probes() -> None:
    async with running(loopback=False) as admin:
        assert (await admin.ask("/api/status")).status == 403
        assert (await admin.ask("/livez")).status == 200


async def test_a_port_that_is_taken_is_named_with_the_ways_out() -> None:
    async with running() as admin:
        port = int(admin.url.rpartition(":")[2])
        second = AdminServer(
            admin.bridge, host="127.0.0.1", port=port, loopback=True, token=None, clock=admin.world.clock
        )

        with pytest.raises(Misconfigured, match=f"cannot listen at 127.0.0.1:{port} .*--admin off"):
            await second.start()
