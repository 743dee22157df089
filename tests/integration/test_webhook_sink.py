"""The webhook sink against a real HTTP server: what goes out, what each answer asks for, and whom it never reaches."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from oplogbridge import Batch, Sink, SinkContext
from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge_sinks.webhook.addresses import is_public
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.sink import WebhookSink, plugin
from receiver import Post, Receiver

NOW = 1_795_381_404
KEYS = [bytes(range(32)), bytes(range(32, 64))]
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS]


def settings(receiver: Receiver, **changes: Any) -> WebhookSettings:
    return WebhookSettings(**{"url": receiver.url, "allow_http": True, "allow_private_addresses": True} | changes)


class Saves:
    """What a sink saves during a write."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def of(self, batch: Batch) -> Batch:
        return replace(batch, save=self._save)

    async def _save(self, offset: int) -> None:
        self.offsets.append(offset)


@asynccontextmanager
async def opened(receiver: Receiver, owner: str = "bridge.orders", **changes: Any) -> AsyncIterator[Sink]:
    sink = plugin.build(settings(receiver, **changes), SinkContext(owner, "orders", "my shop", "https://source"))
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


# What goes out -----------------------------------------------------------------------------------------------------


async def test_an_event_goes_out_as_a_nats_consumer_would_get_it(receiver: Receiver) -> None:
    event = make_event(FIRST, object_type="a.b", key="user/å 1".encode())

    async with opened(receiver, headers={"Authorization": "Bearer x"}) as sink:
        await sink.write(make_batch(event))

    (post,) = receiver.posts
    assert post.body == event.payload
    shown = {name.lower(): value for name, value in post.headers.items()}
    assert shown["nats-subject"] == "my%20shop.a%2Eb.update"
    assert shown["nats-msg-id"] == shown["webhook-id"] == f"my%20shop-{FIRST}"
    assert shown["nats-num-delivered"] == "1"
    assert shown["oplog-sequence"] == str(FIRST)
    assert shown["oplog-key"] == "user/%C3%A5%201"
    assert shown["authorization"] == "Bearer x"
    assert "webhook-signature" not in shown


def verified(post: Post, secret: str) -> bool:
    """What the standard's own library says."""
    try:
        Webhook(secret).verify(post.body, {name.lower(): value for name, value in post.headers.items()})
    except WebhookVerificationError:
        return False
    return True


async def test_what_was_changed_on_the_way_is_told_by_the_signature(receiver: Receiver) -> None:
    async with opened(receiver, secret=SECRETS[0]) as sink:
        await sink.write(make_batch(FIRST))

    (post,) = receiver.posts
    assert verified(post, SECRETS[0])
    assert not verified(Post(post.headers, post.body.replace(b"data", b"atad")), SECRETS[0])
    for name in ("webhook-id", "webhook-timestamp"):
        assert not verified(Post({**post.headers, name: post.headers[name] + "1"}, post.body), SECRETS[0])


async def test_while_secrets_are_exchanged_both_sign(receiver: Receiver) -> None:
    async with opened(receiver, secrets=SECRETS) as sink:
        await sink.write(make_batch(FIRST))
    async with opened(receiver, secret=SECRETS[1]) as sink:
        await sink.write(make_batch(FIRST + 1))

    both, later = receiver.posts
    assert [verified(both, secret) for secret in SECRETS] == [True, True]
    assert [verified(later, secret) for secret in SECRETS] == [False, True]


async def test_several_events_go_out_as_one_array(receiver: Receiver) -> None:
    headers = (("content-type", b"application/cloudevents+json"),)
    events = [make_event(FIRST + n, payload=b'{"n":%d}' % n, constant_headers=headers) for n in range(5)]

    async with opened(receiver, batch_max=2) as sink:
        await sink.write(make_batch(*events))

    assert [json.loads(post.body) for post in receiver.posts] == [
        [{"n": 0}, {"n": 1}],
        [{"n": 2}, {"n": 3}],
        [{"n": 4}],
    ]
    assert receiver.ids[0] == f"my%20shop-{FIRST}-{FIRST + 1}"
    assert {post.headers["content-type"] for post in receiver.posts} == {"application/cloudevents-batch+json"}


# What the answer asks for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "wait"), [(503, 7.0), (429, 7.0), (500, None), (302, None)])
async def test_a_nak_ends_the_write_and_saves_how_far_it_got(
    receiver: Receiver, status: int, wait: float | None
) -> None:
    receiver.answer(204, times=2)
    receiver.answer(status, headers={"Retry-After": "7"} if status in (429, 503) else {"Location": "/elsewhere"})
    saved = Saves()

    async with opened(receiver, f"nak-{status}") as sink:
        with pytest.raises(Unavailable, match=f"HTTP {status}") as nak:
            await sink.write(saved.of(make_batch(FIRST, FIRST + 1, FIRST + 2, FIRST + 3)))

    assert nak.value.retry_after_seconds == wait
    assert saved.offsets == [FIRST + 2]
    assert len(receiver.posts) == 3


async def test_retry_after_may_be_a_date(receiver: Receiver) -> None:
    receiver.answer(503, headers={"Retry-After": format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)})
    context = SinkContext("bridge.date", "orders", "my shop", "https://source")
    sink = WebhookSink(settings(receiver), context, unix_seconds=lambda: NOW)
    await sink.open()

    with pytest.raises(Unavailable) as nak:
        await sink.write(make_batch(FIRST))
    await sink.close()

    assert nak.value.retry_after_seconds == 90.0


async def test_how_often_it_was_sent_is_told_and_outlives_the_sink(receiver: Receiver) -> None:
    receiver.answer(500, times=2)
    batch = make_batch(FIRST)

    for _ in range(2):
        async with opened(receiver, "count", backoff=["1s", "5s"]) as sink:
            with pytest.raises(Unavailable) as nak:
                await sink.write(batch)
    async with opened(receiver, "count") as sink:
        await sink.write(make_batch(FIRST, FIRST + 1))

    assert (nak.value.retry_after_seconds, nak.value.exactly) == (5.0, True)
    assert [post.headers["Nats-Num-Delivered"] for post in receiver.posts] == ["1", "2", "3", "1"]
    assert len({post.headers["webhook-id"] for post in receiver.posts[:3]}) == 1


async def test_still_working_is_asked_again_and_is_no_failed_delivery(receiver: Receiver) -> None:
    receiver.answer(202, headers={"Oplog-Ack": "+WPI"}, times=3)

    for _ in range(3):
        async with opened(receiver, "wpi", ack_wait="9s", max_deliver=1) as sink:
            with pytest.raises(Unavailable, match="still working") as working:
                await sink.write(make_batch(FIRST))
        assert working.value.retry_after_seconds == 9.0
    async with opened(receiver, "wpi", max_deliver=1) as sink:
        await sink.write(make_batch(FIRST))

    assert receiver.ids == [f"my%20shop-{FIRST}"]


@pytest.mark.parametrize("status", [400, 404, 408, 422])
async def test_a_term_rejects_the_event(receiver: Receiver, status: int) -> None:
    receiver.answer(204)
    receiver.answer(status, text="no such\ncustomer")
    batch = make_batch(FIRST, FIRST + 1)

    async with opened(receiver) as sink:
        with pytest.raises(Rejected, match=f"HTTP {status}: no such customer") as rejected:
            await sink.write(batch)

    assert rejected.value.event is batch.events[1]


async def test_in_a_refused_batch_the_event_is_found(receiver: Receiver) -> None:
    receiver.refuse = lambda post: b"poison" in post.body
    events = [make_event(FIRST + n, payload=b'"poison"' if n == 2 else b'"%d"' % n) for n in range(4)]

    async with opened(receiver, "batch", batch_max=4) as sink:
        with pytest.raises(Rejected) as rejected:
            await sink.write(make_batch(*events))

    assert rejected.value.event is events[2]
    assert [json.loads(post.body) for post in receiver.acknowledged] == [["0"], ["1"]]


async def test_while_an_event_is_searched_for_the_offset_is_saved_every_10_requests(receiver: Receiver) -> None:
    receiver.refuse = lambda post: b"poison" in post.body
    events = [make_event(FIRST + n, payload=b'"poison"' if n == 24 else b'"%d"' % n) for n in range(25)]
    saved = Saves()

    async with opened(receiver, "search", batch_max=25) as sink:
        with pytest.raises(Rejected):
            await sink.write(saved.of(make_batch(*events)))

    assert saved.offsets == [FIRST + 9, FIRST + 19]


async def test_after_so_many_deliveries_the_event_is_rejected(receiver: Receiver) -> None:
    receiver.answer(500, times=3)

    for _ in range(2):
        async with opened(receiver, "max", max_deliver=3) as sink:
            with pytest.raises(Unavailable):
                await sink.write(make_batch(FIRST))
    async with opened(receiver, "max", max_deliver=3) as sink:
        with pytest.raises(Rejected, match="sent 3 times"):
            await sink.write(make_batch(FIRST))


async def test_of_a_batch_sent_so_often_the_first_event_is_rejected(receiver: Receiver) -> None:
    receiver.answer(500, times=2)
    batch = make_batch(FIRST, FIRST + 1, FIRST + 2)

    async with opened(receiver, "max-batch", max_deliver=2, batch_max=3) as sink:
        with pytest.raises(Unavailable):
            await sink.write(batch)
        with pytest.raises(Rejected) as rejected:
            await sink.write(batch)

    assert rejected.value.event is batch.events[0]
    assert len(receiver.posts) == 2


async def test_a_receiver_that_is_gone_for_good_stops_the_pipeline(receiver: Receiver) -> None:
    receiver.answer(204)
    receiver.answer(410)
    saved = Saves()

    async with opened(receiver) as sink:
        with pytest.raises(Misconfigured, match="gone for good"):
            await sink.write(saved.of(make_batch(FIRST, FIRST + 1)))

    assert saved.offsets == [FIRST + 1]  # else each slow retry would send a copy of the first


async def test_no_answer_within_ack_wait_is_a_nak(receiver: Receiver) -> None:
    receiver.hang()

    async with opened(receiver, "late", ack_wait="200ms") as sink:
        with pytest.raises(Unavailable, match="no answer in time"):
            await sink.write(make_batch(FIRST))
        await sink.write(make_batch(FIRST))

    assert [post.headers["Nats-Num-Delivered"] for post in receiver.posts] == ["1", "2"]


async def test_a_receiver_that_is_down_is_unavailable_and_works_again(receiver: Receiver) -> None:
    async with opened(receiver, "down") as sink:
        await receiver.__aexit__()
        with pytest.raises(Unavailable):
            await sink.write(make_batch(FIRST))
        await receiver.__aenter__()
        await sink.write(make_batch(FIRST))

    assert receiver.ids == [f"my%20shop-{FIRST}"]


# Whom it never reaches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "255.255.255.255", "ff02::1", "ff0e::1", "::7f00:1",
        "::ffff:0:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "fec0::1", "fd00:ec2::254",
        "2002:a9fe:a9fe::1", "192.0.0.8", "192.88.99.1", "198.18.0.1", "240.0.0.1", "0.1.2.3", "2001:db8::1", "3fff::1",
        "5f00::1", "::ffff:169.254.169.254", "::ffff:224.0.0.1",
    ],
)  # fmt: skip
def test_an_address_inside_is_forbidden(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822", "::ffff:8.8.8.8", "2002:808:808::1"],
)
def test_an_address_of_the_public_internet_is_not(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"])
async def test_a_receiver_inside_is_never_reached_unless_allowed(receiver: Receiver, host: str) -> None:
    url = f"http://{host}:{receiver.port}/hook"
    sink = plugin.build(
        WebhookSettings(url=url, allow_http=True), SinkContext("bridge.inside", "orders", "shop", "https://source")
    )

    async def reach() -> None:
        await sink.open()
        await sink.write(make_batch(FIRST))

    with pytest.raises((Misconfigured, Unavailable)) as refused:
        await reach()
    await sink.close()

    assert receiver.posts == []
    if host in ("127.0.0.1", "localhost"):
        assert isinstance(refused.value, Misconfigured)
        assert "allow_private_addresses" in str(refused.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1]"]
)
async def test_a_number_that_leads_inside_is_refused_when_the_sink_is_opened(host: str) -> None:
    settings = WebhookSettings(url=f"http://{host}/hook", allow_http=True)
    sink = plugin.build(settings, SinkContext("bridge.number", "orders", "shop", "https://source"))

    with pytest.raises(Misconfigured, match="allow_private_addresses"):
        await sink.open()
    await sink.close()


async def test_a_name_that_leads_inside_at_the_second_look_is_never_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public for whoever checks, private for whoever connects."""
    looked_up: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        address = "127.0.0.1" if looked_up else "203.0.114.1"
        looked_up.append(address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    settings = WebhookSettings(url=f"http://hooks.example.com:{receiver.port}/hook", allow_http=True, ack_wait="200ms")
    sink = plugin.build(settings, SinkContext("bridge.rebound", "orders", "shop", "https://source"))
    for expected in (Unavailable, Misconfigured):
        await sink.open()
        with pytest.raises(expected):
            await sink.write(make_batch(FIRST))
        await sink.close()

    assert looked_up == ["203.0.114.1", "127.0.0.1"]
    assert receiver.posts == []


async def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        async with opened(receiver, "proxy") as sink:
            await sink.write(make_batch(FIRST))

        assert (len(receiver.posts), len(proxy.posts)) == (1, 0)


# Settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"url": "ftp://host/"}, "must be a URL"),
        ({"url": "https://ada:secret@host/"}, "must not hold a user"),
        ({"url": "http://host/", "allow_http": False}, "https://"),
        ({"secret": "hunter2"}, "whsec_"),
        ({"secret": SECRETS[0], "secrets": SECRETS}, "not both"),
        ({"headers": {"Webhook-Id": "x"}}, "set by the bridge"),
        ({"headers": {"X": "a\r\nb"}}, "no header of one line"),
        ({"batch_max": 0}, "greater than or equal to 1"),
        ({"backoff": []}, "at least 1 item"),
        ({"ordering": "any"}, "'ordered' or 'key'"),
        ({"max_ack_pending": 2}, "needs `ordering: key`"),
        ({"max_ack_pending": 0, "ordering": "key"}, "greater than or equal to 1"),
        ({"batch_max": 2, "ordering": "key"}, "needs `ordering: ordered`"),
    ],
)
def test_a_wrong_setting_is_explained(receiver: Receiver, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as refused:
        settings(receiver, **changes)

    assert not any(secret in str(refused.value) for secret in ("ada:secret", "hunter2", *SECRETS))


def test_nothing_secret_is_shown(receiver: Receiver) -> None:
    chosen = settings(
        receiver, secrets=SECRETS, headers={"Authorization": "hunter2"}, url=f"{receiver.url}?token=s3cr3t"
    )
    sink = plugin.build(chosen, SinkContext("bridge.orders", "orders", "shop", "https://source"))

    shown = [repr(chosen.headers), repr(chosen.secrets), sink.destination, repr(sink)]
    shown += plugin.permissions(chosen, SinkContext("bridge.orders", "orders", "shop", "https://source"))
    assert not [text for text in shown for secret in (*SECRETS, "hunter2", "s3cr3t") if secret in text]
