"""A page that is too large, by the source's word or by our own bound, is asked for in smaller pieces, down to one."""

from __future__ import annotations

import gzip
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from oplogbridge.emulator.server import Emulator
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.source.client import OplogClient
from pages import entry, page, strings
from raw_server import Peer, RawServer, response

BYTES_MAX = 10_000


@asynccontextmanager
async def client_of(url: str, *, page_limit: int = 1000, page_bytes_max: int = BYTES_MAX) -> AsyncIterator[OplogClient]:
    client = OplogClient(
        name="shop",
        url=url,
        credentials=None,
        page_limit=page_limit,
        page_bytes_max=page_bytes_max,
        request_timeout_seconds=20.0,
    )
    try:
        yield client
    finally:
        await client.close()


def limits_asked(server: RawServer) -> list[int]:
    return [int(found[1]) for request in server.requests if (found := re.search(rb"limit=(\d+)", request))]


def source_of(body_of: Callable[[int], tuple[str, bytes]]) -> RawServer:
    """A server whose answer depends on the limit."""

    async def answer(peer: Peer) -> None:
        found = re.search(rb"limit=(\d+)", peer.request)
        status, body = body_of(int(found[1]) if found else 400)
        await peer.send(response(body, status=status))

    return RawServer(answer)


async def polls_until_good(client: OplogClient, *, polls_max: int = 20) -> None:
    for _ in range(polls_max):
        try:
            await client.poll(0)
        except Unavailable:
            continue
        return
    raise AssertionError("no good poll")


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "422 Unprocessable"])
async def test_a_complaint_about_the_limit_halves_it_for_good(status: str) -> None:
    complaint = b'{"type":"INVALID_API_REQUEST","detail":"\'limit\' must not be greater than 300."}'
    async with (
        source_of(lambda limit: (status, complaint) if limit > 300 else ("200 OK", strings(1))) as server,
        client_of(server.url) as client,
    ):
        await polls_until_good(client)
        for _ in range(3):
            await client.poll(0)

    assert limits_asked(server) == [1000, 500, 250, 250, 250, 250]


async def test_a_complaint_that_arrives_in_pieces_is_understood() -> None:
    async def answer(peer: Peer) -> None:
        if b"limit=1000" in peer.request:
            body = b'{"detail":"the limit is too high"}'
            await peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body), body[:5], body[5:])
        else:
            await peer.send(response(strings(1)))

    async with RawServer(answer) as server, client_of(server.url) as client:
        with pytest.raises(Unavailable, match="asking for 500"):
            await client.poll(0)
        assert len((await client.poll(0)).entries) == 1


async def test_the_emulators_lowered_maximum_is_found() -> None:
    async with Emulator() as emulator, client_of(emulator.url, page_bytes_max=2**20) as client:
        emulator.switch(limit_max=100, limit_above_max="reject")
        emulator.append("create", {"id": "1", "type": "user"})

        await polls_until_good(client)

        assert [request.limit for request in emulator.requests] == ["1000", "500", "250", "125", "62"]


async def test_a_page_over_our_bound_is_asked_for_in_halves_and_the_limit_recovers() -> None:
    large = page(entry("1", note="x" * BYTES_MAX), has_more=False)
    too_large_once = [True]

    def body_of(limit: int) -> tuple[str, bytes]:
        if limit > 300 and too_large_once[0]:
            return "200 OK", large
        too_large_once[0] = False
        return "200 OK", strings(1)

    async with source_of(body_of) as server, client_of(server.url) as client:
        await polls_until_good(client)
        for _ in range(3):
            await client.poll(0)

    assert limits_asked(server) == [1000, 500, 250, 500, 1000, 1000]


async def test_one_entry_that_is_too_large_is_for_a_person_to_decide() -> None:
    large = page(entry("1", note="x" * BYTES_MAX), has_more=False)
    async with source_of(lambda _: ("200 OK", large)) as server, client_of(server.url, page_limit=4) as client:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.poll(0)
        for _ in range(3):
            with pytest.raises(Misconfigured, match="raise `page_bytes_max`"):
                await client.poll(0)

    assert limits_asked(server) == [4, 2, 1, 1, 1]


async def test_a_complaint_that_goes_on_at_limit_one_is_for_a_person_to_decide() -> None:
    async with (
        source_of(lambda _: ("400 Bad", b'{"detail":"limit"}')) as server,
        client_of(server.url, page_limit=2) as client,
    ):
        with pytest.raises(Unavailable):
            await client.poll(0)
        with pytest.raises(Misconfigured):
            await client.poll(0)

    assert limits_asked(server) == [2, 1]


async def test_a_page_of_exactly_the_bound_is_taken() -> None:
    body = strings(1)
    async with (
        source_of(lambda _: ("200 OK", body)) as server,
        client_of(server.url, page_bytes_max=len(body)) as client,
    ):
        assert len((await client.poll(0)).entries) == 1


async def test_a_body_of_200_megabytes_is_given_up_at_the_bound() -> None:
    sent = [0]
    piece = b"x" * 2**16

    async def flood(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        while sent[0] < 200_000_000:
            await peer.send(piece)
            sent[0] += len(piece)

    async with RawServer(flood) as server, client_of(server.url, page_bytes_max=4 * 2**20) as client:
        tracemalloc.start()
        try:
            with pytest.raises(Unavailable, match="asking for 500 entries"):
                await client.poll(0)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert most < 16 * 2**20
    assert sent[0] < 40 * 2**20  # the rest is in nobody's memory: the connection was closed


async def test_a_compressed_bomb_is_given_up_at_the_bound() -> None:
    bomb = gzip.compress(b" " * 100_000_000, compresslevel=1)
    async with (
        RawServer(lambda peer: peer.send(response(bomb, headers=b"Content-Encoding: gzip\r\n"))) as server,
        client_of(server.url, page_bytes_max=2**20) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(Unavailable, match="asking for 500 entries"):
                await client.poll(0)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert most < 32 * 2**20
