"""The state store over a Redis that is down, slow, full, read-only, misused or not the one that was meant."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.redis_nodes.address import RedisAddress, Server
from oplogbridge.state.redis import RedisStateStore, permissions
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge.testing.state_place import ALICE, BOB, acquired, audit_record, stored
from services import RedisServer

_LONG_SECONDS = 3600.0
_PATIENCE_SECONDS = 20.0
_SECRET = "s3cret-passw0rd"

OwnRedis = Callable[..., RedisServer]


def store_at(
    port: int, *, username: str | None = None, password: str | None = None, deadline_seconds: float = 5.0
) -> RedisStateStore:
    address = RedisAddress((Server("127.0.0.1", port),), 0, username, password)
    return RedisStateStore(address, name="oplog-bridge", deadline_seconds=deadline_seconds)


@asynccontextmanager
async def opened(store: RedisStateStore) -> AsyncIterator[RedisStateStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def raw(port: int, **options: object) -> AsyncIterator[Redis]:
    client = Redis(port=port, **options)
    try:
        yield client
    finally:
        await client.aclose()


# --- a server that is not there, or not well --------------------------------------------------------------------------


async def test_a_server_that_is_down_at_the_start_is_unavailable_and_then_opened(own_redis: OwnRedis) -> None:
    server = own_redis()
    server.kill()
    store = store_at(server.port)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{server.port}"):
        await store.open()
    server.restart()
    async with opened(store):
        await acquired(store, "shop", ALICE)


async def test_the_lease_and_the_offset_outlive_a_killed_server(own_redis: OwnRedis) -> None:
    server = own_redis()
    async with opened(store_at(server.port)) as store:
        token = await acquired(store, "shop", ALICE)
        await store.save("shop", token, "p", stored(5), replacing=None)
        await asyncio.gather(*(store.peek("p") for _ in range(8)))  # so that idle connections die with it

        server.kill()
        with pytest.raises(Unavailable):
            await store.save("shop", token, "p", stored(6), replacing=stored(5))
        server.restart()

        assert await store.load("shop", token, "p") == stored(5)
        await store.save("shop", token, "p", stored(6), replacing=stored(5))


async def test_a_server_that_was_restarted_between_two_calls_costs_one_call_at_most(own_redis: OwnRedis) -> None:
    server = own_redis()
    async with opened(store_at(server.port)) as store:
        token = await acquired(store, "shop", ALICE)
        await asyncio.gather(*(store.peek("p") for _ in range(8)))
        server.kill()
        server.restart()
        with pytest.raises(Unavailable):
            await store.renew("shop", token, _LONG_SECONDS)
        await asyncio.gather(*(store.renew("shop", token, _LONG_SECONDS) for _ in range(8)))


async def test_a_stalled_server_is_unavailable_within_the_deadline(own_redis: OwnRedis) -> None:
    server = own_redis()
    async with opened(store_at(server.port, deadline_seconds=0.2)) as store:
        token = await acquired(store, "shop", ALICE)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.acquire("shop", BOB, _LONG_SECONDS),
            lambda: store.renew("shop", token, _LONG_SECONDS),
            lambda: store.release("shop", "1-0"),
            lambda: store.holder("shop"),
            lambda: store.load("shop", token, "p"),
            lambda: store.save("shop", token, "p", stored(5), replacing=None),
            lambda: store.peek("p"),
            lambda: store.record(audit_record(1)),
            lambda: store.audit(1),
        ]
        server.pause()
        try:
            # More calls than connections: those that wait for their turn are not late either.
            async with asyncio.timeout(2.0):
                outcomes = await asyncio.gather(*(call() for call in calls * 3), return_exceptions=True)
        finally:
            server.resume()
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(outcomes)
        assert await store.holder("shop") == ALICE


async def test_late_answers_are_never_paired_with_another_request(own_redis: OwnRedis) -> None:
    """Calls are cancelled, time out and stall at random while others check what they get."""
    server = own_redis()
    chance = random.Random(7)
    async with opened(store_at(server.port, deadline_seconds=0.1)) as store, raw(server.port) as client:
        names = [f"p{number}" for number in range(10)]
        for number, name in enumerate(names):
            await client.set(f"{{oplog-bridge}}:offset:{name}", stored(number).to_text())

        async def check(number: int) -> int:
            try:
                async with asyncio.timeout(chance.choice((0.0002, 0.001, 0.005, 1.0))):
                    assert await store.peek(names[number]) == stored(number)
                    return 1
            except (TimeoutError, Unavailable):
                return 0

        whole = 0
        for _ in range(60):
            stall = chance.random() < 0.2
            if stall:
                server.pause()
            checks = [asyncio.create_task(check(number)) for number in range(10) for _ in range(2)]
            if stall:
                await asyncio.wait(checks, timeout=chance.random() * 0.15)
                server.resume()
            whole += sum(await asyncio.gather(*checks))
        assert whole > 100


async def test_a_save_whose_answer_was_lost_happened_and_is_not_repeated(
    redis_server: RedisServer, unique: str
) -> None:
    async with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        address = RedisAddress((Server("127.0.0.1", proxy.port),), 0, None, None)
        async with opened(RedisStateStore(address, name=unique)) as store:
            token = await acquired(store, "shop", ALICE)
            await store.save("shop", token, "p", stored(4), replacing=None)  # so that the server knows the script
            proxy.reset_before_reply(lambda request: b"EVALSHA" in request)
            with pytest.raises(Unavailable):
                await store.save("shop", token, "p", stored(5), replacing=stored(4))
            proxy.heal()
            assert await store.load("shop", token, "p") == stored(5)


async def test_a_lease_whose_answer_was_lost_is_taken_by_the_next_request(
    redis_server: RedisServer, unique: str
) -> None:
    async with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        address = RedisAddress((Server("127.0.0.1", proxy.port),), 0, None, None)
        async with opened(RedisStateStore(address, name=unique)) as store:
            await acquired(store, "warm-up", ALICE)
            proxy.reset_before_reply(lambda request: b"EVALSHA" in request)
            with pytest.raises(Unavailable):
                await store.acquire("shop", ALICE, _LONG_SECONDS)
            proxy.heal()
            assert await store.holder("shop") == ALICE, "it happened"
            token = await acquired(store, "shop", ALICE)
            assert token.startswith("2-")


async def test_a_full_server_is_unavailable_and_goes_on_when_there_is_room(own_redis: OwnRedis) -> None:
    server = own_redis()
    async with opened(store_at(server.port)) as store, raw(server.port) as client:
        token = await acquired(store, "shop", ALICE)
        await client.config_set("maxmemory", "1")
        with pytest.raises(Unavailable, match="memory"):
            await store.save("shop", token, "p", stored(5), replacing=None)
        with pytest.raises(Unavailable, match="memory"):
            await store.acquire("warehouse", ALICE, _LONG_SECONDS)
        assert await store.load("shop", token, "p") is None, "reading goes on"
        await store.renew("shop", token, _LONG_SECONDS)
        await client.config_set("maxmemory", "0")
        await store.save("shop", token, "p", stored(5), replacing=None)
        assert await client.get("{oplog-bridge}:epoch:warehouse") is None, "nothing of the refused script happened"


async def test_a_replica_is_unavailable_until_it_is_promoted(own_redis: OwnRedis) -> None:
    primary = own_redis()
    replica = own_redis(replica_of=primary)
    async with opened(store_at(primary.port)) as store:
        await acquired(store, "warehouse", ALICE)
        async with raw(primary.port) as client:
            assert await client.wait(1, 10_000) == 1
    async with opened(store_at(replica.port)) as store, raw(replica.port) as client:
        assert await store.holder("warehouse") == ALICE
        with pytest.raises(Unavailable, match="read only replica"):
            await store.acquire("shop", ALICE, _LONG_SECONDS)
        await client.replicaof("NO", "ONE")
        await acquired(store, "shop", ALICE)


async def test_a_server_that_forgot_the_scripts_is_told_them_again(own_redis: OwnRedis) -> None:
    server = own_redis()
    async with opened(store_at(server.port)) as store, raw(server.port) as client:
        token = await acquired(store, "shop", ALICE)
        await client.script_flush()
        await store.save("shop", token, "p", stored(5), replacing=None)
        assert await store.peek("p") == stored(5)


# --- who we are, and what is there ------------------------------------------------------------------------------------


async def test_a_wrong_password_is_misconfigured_and_never_shown(own_redis: OwnRedis) -> None:
    server = own_redis(config={"requirepass": "right"})
    for store in (store_at(server.port, password=_SECRET), store_at(server.port)):
        with pytest.raises(Misconfigured, match="check user and password") as refused:
            await store.open()
        assert_hides_the_secret(store, refused.value)
    async with opened(store_at(server.port, password="right")) as store:
        await acquired(store, "shop", ALICE)


async def test_the_least_rights_are_enough_and_are_ours_alone(own_redis: OwnRedis) -> None:
    rules = [f"user bridge on >{_SECRET} {rule}" for rule in permissions("oplog-bridge")]
    server = own_redis(acl=["user default on nopass ~* &* +@all", *rules])
    async with opened(store_at(server.port, username="bridge", password=_SECRET)) as store, raw(server.port) as client:
        token = await acquired(store, "shop", ALICE)
        await store.renew("shop", token, _LONG_SECONDS)
        assert await store.holder("shop") == ALICE
        await store.save("shop", token, "p", stored(5), replacing=None)
        assert await store.load("shop", token, "p") == stored(5)
        assert await store.peek("p") == stored(5)
        await store.record(audit_record(1))
        assert await store.audit(1) == [audit_record(1)]
        await client.script_flush()
        await store.release("shop", token)
        assert await client.acl_log() == [], "nothing was denied on the way"

    address = RedisAddress((Server("127.0.0.1", server.port),), 0, "bridge", _SECRET)
    stranger = RedisStateStore(address, name="another")
    with pytest.raises(Misconfigured, match="denies a right") as denied:
        await stranger.open()
    assert_hides_the_secret(stranger, denied.value)


@pytest.mark.parametrize("key", ["lease:shop", "offset:p", "audit", "format", "epoch:shop"])
async def test_a_key_of_another_type_is_misconfigured(own_redis: OwnRedis, key: str) -> None:
    server = own_redis()
    async with opened(store_at(server.port)) as store, raw(server.port) as client:
        await client.delete("{oplog-bridge}:format")
        await client.sadd(f"{{oplog-bridge}}:{key}", "not ours")

        async def use() -> None:
            token = await acquired(store, "shop", ALICE)
            await store.save("shop", token, "p", stored(5), replacing=None)
            await store.record(audit_record(1))

        with pytest.raises(Misconfigured, match="another program"):
            await use()


@pytest.mark.parametrize(
    ("key", "value"), [("lease:shop", "mine"), ("format", "x"), ("offset:p", b"\xff"), ("epoch:shop", "x")]
)
async def test_a_value_that_is_not_ours_is_misconfigured(own_redis: OwnRedis, key: str, value: str | bytes) -> None:
    server = own_redis()
    async with opened(store_at(server.port)) as store, raw(server.port) as client:
        await client.set(f"{{oplog-bridge}}:{key}", value)

        async def use() -> None:
            token = await acquired(store, "shop", ALICE)
            await store.load("shop", token, "p")

        with pytest.raises(Misconfigured):
            await use()


# --- what servers say -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(line: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that says one thing to everything: its port, and what it was asked. An empty line hangs up."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with connected, asyncio.timeout(_PATIENCE_SECONDS):
            while request := await reader.read(65536):
                asked.append(request)
                if not line:
                    break
                writer.write(f"{line}\r\n".encode())
            writer.close()
            await writer.wait_closed()

    connected = asyncio.Lock()  # one connection at a time is all that these tests make
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        async with connected:
            await server.wait_closed()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("-LOADING Redis is loading the dataset in memory", Unavailable),
        ("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Unavailable),
        ("-CLUSTERDOWN The cluster is down", Unavailable),
        ("-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", Unavailable),
        ("-NOREPLICAS Not enough good replicas to write.", Unavailable),
        ("-BUSY Redis is busy running a script.", Unavailable),
        ("-TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
        ("-ERR max number of clients reached", Unavailable),
        ("-ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed", Unavailable),
        ("-ERR Error running script (call to f_1): @user_script:3: WRONGTYPE Operation against", Misconfigured),
        ("-MOVED 3999 127.0.0.1:1", Unavailable),
        ("-NOAUTH Authentication required.", Misconfigured),
        ("-NOPERM this user has no permissions to run the 'evalsha' command", Misconfigured),
        ("-ERR unknown command 'EVALSHA'", Misconfigured),
        ("HTTP/1.1 400 Bad Request", Unavailable),
        ("", Unavailable),
    ],
)
async def test_what_a_server_answers_says_what_to_do_next(line: str, kind: type[BridgeError]) -> None:
    async with answering(line) as (port, asked):
        with pytest.raises(kind):
            await store_at(port).open()
        assert len(asked) == 1, "a command is sent once"


async def test_a_server_that_quotes_the_password_does_not_make_it_known() -> None:
    async with answering(f"-ERR unknown command 'AUTH', with args beginning with: '{_SECRET}'") as (port, _):
        store = store_at(port, password=_SECRET)
        with pytest.raises(BridgeError) as refused:
            await store.open()
        assert_hides_the_secret(store, refused.value)


def assert_hides_the_secret(store: RedisStateStore, error: BridgeError) -> None:
    shown = [repr(store), str(store), repr(error), *traceback.format_exception(error)]
    assert _SECRET not in "\n".join(shown)
