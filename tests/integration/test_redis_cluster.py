"""A real Redis Cluster, for the sink and for the state store. Slots that move during a copy: tests/faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import ValidationError

from oplogbridge.errors import Misconfigured
from oplogbridge_sinks.redis import RedisSettings
from planted import PASSWORD
from redis_users import USERS, RedisUser
from services import RedisCluster, free_port
from services.resp import ask

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


async def test_from_any_node_the_one_of_our_slot_is_found(redis_cluster: RedisCluster, user: MakeUser) -> None:
    one = user(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{redis_cluster.other(user('redis://x').key).port}")
    await one.open()
    await one.use()
    await one.use()

    assert ask(redis_cluster.owner(one.key), "EXISTS", one.key) == 1


async def test_a_slot_on_its_way_is_followed_to_what_has_arrived(redis_cluster: RedisCluster, user: MakeUser) -> None:
    """All keys are there, the slot is not: ASK. Then the slot is there, and what is open goes on."""
    one = user(redis_cluster.url)
    await one.open()
    await one.use()
    to = redis_cluster.other(one.key)
    redis_cluster.begin_move(one.key, to)
    redis_cluster.move_keys(one.key, to)

    await one.open()
    await one.use()
    redis_cluster.end_move(one.key, to)
    await one.use()

    assert ask(to, "EXISTS", one.key) == 1


async def test_the_least_rights_are_enough_also_while_the_slot_moves(
    redis_cluster: RedisCluster, user: MakeUser, unique: str
) -> None:
    one = user(redis_cluster.url.replace("//", f"//{unique}:{PASSWORD}@"))
    (rights,) = one.rights()
    for node in redis_cluster.nodes:
        ask(node, "ACL", "SETUSER", unique, "on", f">{PASSWORD}", *rights.split())
    await one.open()
    await one.use()
    to = redis_cluster.other(one.key)
    redis_cluster.begin_move(one.key, to)
    redis_cluster.move_keys(one.key, to)
    await one.open()
    await one.use()
    redis_cluster.end_move(one.key, to)

    for node in redis_cluster.nodes:
        denied = [entry for entry in ask(node, "ACL", "LOG") if unique in entry]
        assert denied == [], "nothing was denied on the way"
        ask(node, "ACL", "SETUSER", unique, "-eval", "-evalsha")
    with pytest.raises(Misconfigured, match="grant what"):
        await user(one.url).open()


@pytest.mark.parametrize("stream", ["oplog:{type}", "oplog:{{{type}}}", "{operation}", "a}}b", "{{}}:{type}"])
def test_streams_without_a_common_slot_are_refused(stream: str) -> None:
    with pytest.raises(ValidationError, match="one constant"):
        RedisSettings.model_validate({"url": "redis+cluster://host", "stream": stream})
    RedisSettings.model_validate({"url": "redis://host", "stream": stream})


@pytest.mark.parametrize("stream", ["oplog:{source}", "{{x}}:{type}.{operation}", "oplog:{{{source}}}:{type}"])
def test_streams_with_a_common_slot_are_taken(stream: str) -> None:
    RedisSettings.model_validate({"url": "redis+cluster://host", "stream": stream})
