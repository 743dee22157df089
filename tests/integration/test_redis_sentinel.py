"""Finding the master through real sentinels, for the sink and for the state store. Fail-overs: tests/faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from oplogbridge.errors import Misconfigured, Unavailable
from planted import PASSWORD
from redis_users import USERS, RedisUser
from services import RedisSentinels, free_port
from services.redis_sentinels import SERVICE
from services.resp import ask

OwnSentinels = Callable[..., RedisSentinels]
MakeUser = Callable[[str], RedisUser]  # of a URL


@pytest.fixture(params=USERS)
async def user(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[MakeUser]:
    users: list[RedisUser] = []

    def make(url: str) -> RedisUser:
        users.append(USERS[request.param](url, unique))
        return users[-1]

    yield make
    for one in users:
        await one.close()


@asynccontextmanager
async def sentinel_that_names(port: int) -> AsyncIterator[int]:
    """One that was cut off and has not heard of the fail-over; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%d\r\n" % port)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_master_is_found_whatever_sentinels_are_gone(redis_sentinels: RedisSentinels, user: MakeUser) -> None:
    nobody = free_port()
    one = user(redis_sentinels.url.replace("//", f"//127.0.0.1:{nobody},"))
    await one.open()
    await one.use()
    await one.use()

    assert ask(redis_sentinels.master, "EXISTS", one.key) == 1


async def test_a_silent_sentinel_does_not_take_all_the_time(own_redis_sentinels: OwnSentinels, user: MakeUser) -> None:
    sentinels = own_redis_sentinels(down_after_ms=60_000)
    sentinels.sentinels[0].pause()
    one = user(sentinels.url)
    await one.open()
    await one.use()


async def test_a_sentinel_that_names_the_old_master_is_not_believed(
    redis_sentinels: RedisSentinels, user: MakeUser
) -> None:
    async with sentinel_that_names(redis_sentinels.replica.port) as port:
        with pytest.raises(Unavailable, match="is not the master"):
            await user(f"redis+sentinel://127.0.0.1:{port}/{SERVICE}").open()

        one = user(redis_sentinels.url.replace("//", f"//127.0.0.1:{port},"))
        await one.open()
        await one.use()


async def test_a_service_that_no_sentinel_knows_is_misconfigured(
    redis_sentinels: RedisSentinels, user: MakeUser
) -> None:
    with pytest.raises(Misconfigured, match="knows no service 'other'"):
        await user(f"redis+sentinel://{redis_sentinels.hosts}/other").open()
    nobody = free_port()
    with pytest.raises(Unavailable):  # that one may know
        await user(f"redis+sentinel://{redis_sentinels.hosts},127.0.0.1:{nobody}/other").open()


async def test_without_any_sentinel_it_is_unavailable(user: MakeUser) -> None:
    with pytest.raises(Unavailable):
        await user(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/{SERVICE}").open()


async def test_a_connection_to_a_master_that_was_demoted_asks_the_sentinels_again(
    own_redis_sentinels: OwnSentinels, user: MakeUser
) -> None:
    sentinels = own_redis_sentinels(down_after_ms=60_000)
    one = user(sentinels.url)
    await one.open()
    await one.use()
    old = sentinels.master
    ask(old, "WAIT", 1, 5000)
    ask(sentinels.sentinels[0], "SENTINEL", "FAILOVER", SERVICE)
    await asyncio.to_thread(sentinels.failed_over, since=old)

    async with asyncio.timeout(20):
        while one.used < 2:
            try:
                await one.open()
                await one.use()
            except Unavailable:
                await asyncio.sleep(0)
    assert ask(sentinels.master, "EXISTS", one.key) == 1
    assert sentinels.master is not old


async def test_the_least_rights_are_enough_at_the_servers_and_at_the_sentinels(
    own_redis_sentinels: OwnSentinels, user: MakeUser
) -> None:
    data, sentinel = user("redis+sentinel://host/service").rights()
    sentinel = sentinel.replace("resetchannels ", "")
    sentinels = own_redis_sentinels(
        acl=(f"user bridge on >{PASSWORD} {data}",),
        sentinel_acl=(f"user finder on >find-it resetchannels -@all {sentinel}",),
    )
    login = f"//bridge:{PASSWORD}@{sentinels.hosts}/{SERVICE}?sentinel_username=finder"
    one = user(f"redis+sentinel:{login}&sentinel_password=find-it")
    await one.open()
    await one.use()
    for server in (sentinels.master, *sentinels.sentinels):
        assert ask(server, "ACL", "LOG") == [], "nothing was denied on the way"

    with pytest.raises(Misconfigured, match="user and password") as refused:
        await user(f"redis+sentinel:{login}&sentinel_password=wr0ng-one").open()
    assert "wr0ng-one" not in f"{refused.value!r}"
    with pytest.raises(Misconfigured, match="user and password"):
        await user(f"redis+sentinel:{login}&sentinel_password=find-it".replace(PASSWORD, "wr0ng-one")).open()
    ask(sentinels.master, "ACL", "SETUSER", "bridge", "-role")
    with pytest.raises(Misconfigured, match="grant what"):
        await user(one.url).open()
