"""One poll is one request, whatever the network and aiohttp would like to do; and what each answer asks for."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from oplogbridge.errors import BridgeError, Fenced, Misconfigured, Unavailable
from oplogbridge.source.client import Credentials, OplogClient
from pages import strings
from raw_server import Answer, Peer, RawServer, answers, response

PAGE = strings(1, 2, 3)
GOOD = answers(PAGE)


@asynccontextmanager
async def client_of(
    url: str,
    *,
    credentials: Credentials | None = None,
    page_limit: int = 1000,
    page_bytes_max: int = 64 * 2**20,
    timeout_seconds: float = 20.0,
    check: Callable[[], None] = lambda: None,
) -> AsyncIterator[OplogClient]:
    client = OplogClient(
        name="shop",
        url=url,
        credentials=credentials,
        page_limit=page_limit,
        page_bytes_max=page_bytes_max,
        request_timeout_seconds=timeout_seconds,
        check=check,
    )
    try:
        yield client
    finally:
        await client.close()


async def error_of(answer: Answer, *, polls: int = 1, **options: object) -> tuple[BridgeError, RawServer]:
    """What the last of some polls raises, the first ones being answered well."""
    async with (
        RawServer(*[GOOD] * (polls - 1), answer) as server,
        client_of(server.url, **options) as client,  # type: ignore[arg-type]
    ):
        for _ in range(polls - 1):
            await client.poll(0)
        with pytest.raises(BridgeError) as raised:
            await client.poll(0)
    return raised.value, server


async def test_a_poll_asks_for_what_the_protocol_says() -> None:
    async with RawServer(GOOD) as server, client_of(server.url + "/", page_limit=7) as client:
        page = await client.poll(6112271540663877633)
        await client.poll_tail()

    assert [one.sequence for one in page.entries] == []  # they all lie below
    first, second = (request.split(b"\r\n")[0] for request in server.requests)
    assert first == b"GET /api/v4/shop/oplog.json?start=6112271540663877633&limit=7&sequence_ids=true HTTP/1.1"
    assert second == b"GET /api/v4/shop/oplog.json?tail=true&sequence_ids=true HTTP/1.1"


@pytest.mark.parametrize("polls", [1, 2, 3])
async def test_a_reset_connection_new_or_reused_is_one_request_and_no_second(polls: int) -> None:
    async def reset(peer: Peer) -> None:
        peer.reset()

    error, server = await error_of(reset, polls=polls)

    assert isinstance(error, Unavailable)
    assert len(server.requests) == polls
    assert server.connections == 1  # the last request went over the reused connection, and nothing came after it


async def test_a_lease_that_is_lost_while_connecting_sends_no_request_and_leaves_no_connection() -> None:
    lost = False

    def check() -> None:
        if lost:
            raise Fenced("the lease ran out")

    async with RawServer(GOOD) as server, client_of(server.url, check=check) as client:
        lost = True
        async with asyncio.timeout(10):
            for _ in range(3):
                with pytest.raises(Fenced, match="ran out"):
                    await client.poll(0)
            while server.connections < 3 or server.open_connections:
                await asyncio.sleep(0)

        assert server.requests == []

        lost = False  # held again, and nothing of the above stands in the way
        await client.poll(0)
        lost = True
        with pytest.raises(Fenced):  # over the connection that was kept
            await client.poll(0)
        assert len(server.requests) == 1


@pytest.mark.parametrize("polls", [1, 2])
async def test_a_connection_closed_without_an_answer_is_one_request_and_no_second(polls: int) -> None:
    async def close(peer: Peer) -> None:
        peer.close()

    error, server = await error_of(close, polls=polls)

    assert isinstance(error, Unavailable)
    assert len(server.requests) == polls


@pytest.mark.parametrize("location", ["/elsewhere", "https://user:hunter2@else.example/x", "http://[::1", ""])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str, location: str) -> None:
    headers = f"Location: {location}\r\n".encode() if location else b""

    error, server = await error_of(answers(b"", status=status, headers=headers))

    assert isinstance(error, Misconfigured)
    assert "redirects are not followed" in str(error)
    assert "hunter2" not in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("401 Unauthorized", b"HTTP Basic: Access denied.\n", "check `auth`"),
        ("404 Not Found", b'{"type":"ACCOUNT_NOT_FOUND"}', "(ACCOUNT_NOT_FOUND): check `url`"),
        ("403 Forbidden", b"", "HTTP 403"),
        ("400 Bad Request", b'{"type":"INVALID_API_REQUEST"}', "INVALID_API_REQUEST"),
        ("204 No Content", b"", "HTTP 204"),
    ],
)
async def test_what_trying_again_will_not_change_is_for_a_person(status: str, body: bytes, said: str) -> None:
    error, _ = await error_of(answers(body, status=status))

    assert isinstance(error, Misconfigured)
    assert said in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        ("429 Too Many", b"", 1.0),
        ("429 Too Many", b"Retry-After: 7\r\n", 7.0),
        ("429 Too Many", b"Retry-After: 0\r\n", 1.0),
        ("429 Too Many", b"Retry-After: soon\r\n", 1.0),
        ("429 Too Many", b"Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 1.0),
        ("408 Timeout", b"", None),
        ("500 Internal", b"", None),
        ("502 Bad Gateway", b"", None),
        ("503 Unavailable", b"Retry-After: 30\r\n", 30.0),
        ("504 Timeout", b"", None),
        ("599 Odd", b"", None),
    ],
)
async def test_what_may_pass_is_tried_again_and_retry_after_is_honoured(
    status: str, headers: bytes, seconds: float | None
) -> None:
    error, _ = await error_of(answers(b"<html>\r\n<h1>Down</h1>\r\n</html>", status=status, headers=headers))

    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == seconds
    assert "\n" not in str(error)


async def test_bodies_that_are_no_page_are_tried_again() -> None:
    for body in (b"", b"<html>Down for maintenance</html>", PAGE[:-10], b"[]", b"null"):
        error, _ = await error_of(answers(body))
        assert isinstance(error, Unavailable)


async def test_a_body_that_is_cut_is_tried_again() -> None:
    async def cut(peer: Peer) -> None:
        await peer.send(response(PAGE)[:-10])
        peer.close()

    async def cut_chunk(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n" + PAGE[:40])
        peer.reset()

    async def no_http(peer: Peer) -> None:
        await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async def broken_gzip(peer: Peer) -> None:
        await peer.send(response(gzip.compress(PAGE)[:-12] + b"x" * 12, headers=b"Content-Encoding: gzip\r\n"))

    for answer in (cut, cut_chunk, no_http, broken_gzip):
        error, server = await error_of(answer)
        assert isinstance(error, Unavailable)
        assert len(server.requests) == 1


async def test_an_answer_slower_than_the_time_out_is_tried_again() -> None:
    async def never(peer: Peer) -> None:
        await peer.reader.read()

    async def stall(peer: Peer) -> None:
        await peer.send(response(PAGE)[:-10])
        await peer.reader.read()

    for answer in (never, stall):
        error, server = await error_of(answer, timeout_seconds=0.05)
        assert isinstance(error, Unavailable)
        assert len(server.requests) == 1


async def test_nobody_at_the_port_is_tried_again() -> None:
    async with RawServer(GOOD) as server:
        url = server.url
    async with client_of(url) as client:
        with pytest.raises(Unavailable, match="the poll failed"):
            await client.poll(0)


async def test_a_poll_that_is_cancelled_leaves_a_client_that_polls_again() -> None:
    arrived = asyncio.Event()

    async def never(peer: Peer) -> None:
        arrived.set()
        await peer.reader.read()

    async with RawServer(never, GOOD) as server, client_of(server.url) as client:
        polling = asyncio.create_task(client.poll(0))
        await arrived.wait()
        polling.cancel()
        await asyncio.wait([polling])

        assert len((await client.poll(0)).entries) == 3
        assert len(server.requests) == 2


async def test_a_compressed_page_is_read() -> None:
    zipped = answers(gzip.compress(PAGE), headers=b"Content-Encoding: gzip\r\n")
    async with RawServer(zipped) as server, client_of(server.url) as client:
        page = await client.poll(0)

    assert len(page.entries) == 3
    assert page.bytes_received == len(PAGE)
    assert b"gzip" in server.requests[0]


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials.basic("deployment", "hunter2-secret"),
        Credentials.bearer("O:hunter2-secret"),
        Credentials.bearer("hunter2-secret"),
        Credentials.token("hunter2-secret"),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "400 Bad", "401 No", "404 No", "429 Too Many", "500 Oops"])
async def test_credentials_are_shown_nowhere(
    credentials: Credentials, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def echo(peer: Peer) -> None:  # some proxies show the request that they could not pass on
        headers = b"Location: http://x/?%b\r\n" % credentials.header.encode() if status.startswith("3") else b""
        await peer.send(response(b"hunter2-secret " + peer.request[-200:], status=status, headers=headers))

    async with RawServer(echo) as server, client_of(server.url, credentials=credentials) as client:
        with pytest.raises(BridgeError) as raised:
            await client.poll(0)
        shown = f"{credentials!r} {credentials} {client!r} {raised.value!r} {raised.value} {vars(raised.value)}"
        cause = raised.value.__cause__
        shown += f"{cause!r} {cause}" + "".join(capsys.readouterr())

    for secret in ("hunter2", credentials.header.split(" ")[1]):
        assert secret not in shown


def test_a_bearer_token_gets_the_prefix_that_it_lacks() -> None:
    assert Credentials.bearer("abc").header == Credentials.bearer("O:abc").header == "Bearer O:abc"
