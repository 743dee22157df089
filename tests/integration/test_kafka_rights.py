"""The rights that `check --connect` tells an operator to grant are enough, and none is too much to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from aiokafka.protocol.admin import DescribeAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from kafka_reader import admin, make_topic
from kafka_world import World
from needed import needed
from oplogbridge import Misconfigured, SinkContext
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge_sinks.kafka import KafkaSettings, plugin
from services import KafkaServer

_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_LITERAL, _PREFIXED = 3, 4
_RESOURCES = {
    "topic": (2, _LITERAL),
    "topics beginning with": (2, _PREFIXED),
    "transactional id": (5, _LITERAL),
}
_DENY, _ALLOW = 2, 3
_GRANTED_WITHIN_SECONDS = 20


class Right(NamedTuple):
    operation: str
    resource: str


class CreateAclsResponse_v1(Response):  # noqa: N801
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("results", Array(("error_code", Int16), ("error_message", String("utf-8"))))
    )


class CreateAclsRequest_v1(RequestStruct):  # noqa: N801
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = CreateAclsResponse_v1
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("pattern", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission", Int8),
            ),
        )
    )


class CreateAcls(Request[CreateAclsRequest_v1]):
    API_KEY = 30

    def __init__(self, creations: list[tuple[object, ...]]) -> None:
        self._creations = creations

    def build(self, request_struct_class: type[CreateAclsRequest_v1]) -> CreateAclsRequest_v1:
        return request_struct_class(self._creations)


@pytest.fixture(scope="module")
def strict_kafka() -> Iterator[KafkaServer]:
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # the listeners without a login: the broker itself, and the tests
    }
    with needed(), KafkaServer().start(secured=True, config=config) as server:
        yield server


class Guarded(World):
    """A pipeline whose login may do nothing that was not granted."""

    def __init__(self, server: KafkaServer, name: str, *, by_certificate: bool = False, **settings: object) -> None:
        super().__init__(
            server.certificate_bootstrap_servers if by_certificate else server.secured_bootstrap_servers, name
        )
        self.server = server
        login: dict[str, object] = {"tls": {"ca": str(server.ca_path)}}
        if by_certificate:  # a name of its own: the tests share a broker
            self.principal = f"User:{name}"
            certificate, key = server.certificates.issue(name, unit="bridges")
            login["tls"] = {"ca": str(server.ca_path), "certificate": str(certificate), "key": str(key)}
        else:
            self.principal = f"User:{server.username}"
            login["sasl"] = {"mechanism": "PLAIN", "username": server.username, "password": server.password}
        self.settings = {"topic": f"{name}.{{source}}", **login, **settings}

    @property
    def rights(self) -> list[Right]:
        """What `check --connect` prints, taken apart."""
        settings = KafkaSettings.model_validate({"bootstrap_servers": self.servers} | self.settings)
        rights = []
        for line in plugin.permissions(settings, SinkContext(self.owner, "orders", "shop", "any")):
            operations, _, resource = line.partition(" on ")
            rights += [Right(operation, resource) for operation in operations.split(", ")]
        return rights

    async def grant(self, rights: list[Right], permission: int = _ALLOW) -> None:
        creations: list[tuple[object, ...]] = []
        for right in rights:
            words, _, name = right.resource.rpartition(" ")
            kind, pattern = _RESOURCES[words]
            creations.append((kind, name, pattern, self.principal, "*", _OPERATIONS[right.operation], permission))
        everything = DescribeAclsRequest(1, None, 1, self.principal, None, 1, 1)
        async with admin(self.server.bootstrap_servers) as client, asyncio.timeout(_GRANTED_WITHIN_SECONDS):
            response = await client._send_to_controller(CreateAcls(creations))
            assert all(code == 0 for code, _ in response.results), response
            granted: set[tuple[object, ...]] = set()
            while not granted.issuperset(creations):  # the answer comes once they are written down, not yet in force
                found = await client._send_to_controller(everything)
                granted = {(*at, *acl) for *at, acls in found.resources for acl in acls}

    async def make_topics(self) -> None:
        await make_topic(self.server.bootstrap_servers, self.checkpoint, 1, {"cleanup.policy": "compact"})
        await make_topic(self.server.bootstrap_servers, self.topic, 2)


async def deliver_two(world: Guarded) -> None:
    """All that a pipeline does, in two lives."""
    for sequence in (FIRST, FIRST + 1):
        async with world.opened(**world.settings) as sink:
            await sink.write(make_batch(sequence))
            await sink.position()
            await sink.move(sequence + 1)
    found = await World(world.server.bootstrap_servers, world.name).sequences()
    assert sorted(found) == [FIRST, FIRST + 1]


@pytest.mark.parametrize("by_certificate", [False, True], ids=["password", "certificate"])
@pytest.mark.parametrize("create", [True, False], ids=["create", "no create"])
async def test_what_is_asked_for_is_enough(
    strict_kafka: KafkaServer, unique: str, create: bool, by_certificate: bool
) -> None:
    world = Guarded(strict_kafka, unique, create=create, by_certificate=by_certificate)
    await world.grant(world.rights)
    if not create:
        await world.make_topics()

    await deliver_two(world)


async def test_it_is_enough_for_topics_that_appear_as_types_do(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True, topic=f"{unique}.{{type}}.{{operation}}")
    await world.grant(world.rights)

    async with world.opened(**world.settings) as sink:
        await sink.write(make_batch(make_event(FIRST), make_event(FIRST + 1, object_type="order")))
    assert await World(strict_kafka.bootstrap_servers, unique).sequences(f"{unique}.order.update") == [FIRST + 1]


# By number, since the names are not known yet: Write on the transactional id; then Read, Write, DescribeConfigs and
# Create, first on the checkpoint's topic and then on that of the events.
_OPTIONAL = (3, 7)
_CREATE = (4, 8)


@pytest.mark.parametrize("missing", [number for number in range(9) if number not in _OPTIONAL])
async def test_each_right_that_is_missing_is_named_at_the_opening(
    strict_kafka: KafkaServer, unique: str, missing: int
) -> None:
    world = Guarded(strict_kafka, unique, create=True, by_certificate=True)
    right = world.rights.pop(missing)
    await world.grant([other for other in world.rights if other != right])
    if missing not in _CREATE:
        await world.make_topics()  # or the right to make them would be all that is asked for

    assert f"the right {right.operation} on {right.resource} is missing" in await world.refused(**world.settings)

    await world.grant([right])
    await deliver_two(world)


async def test_without_the_right_to_read_configurations_it_works(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True, by_certificate=True)
    await world.grant([right for right in world.rights if right.operation != "DescribeConfigs"])

    await deliver_two(world)


async def test_without_any_right_the_first_one_is_named(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, by_certificate=True)
    said = await world.refused(**world.settings)
    assert f"the right Write on transactional id {world.owner} is missing" in said

    await world.grant(world.rights[:1])
    said = await world.refused(**world.settings)
    assert f"the right Describe on topic {world.checkpoint} is missing" in said


async def test_a_right_that_is_taken_away_needs_a_person(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True, by_certificate=True)
    await world.grant(world.rights)
    async with world.opened(**world.settings) as sink:
        await sink.write(make_batch(FIRST))
        await world.grant([Right("Write", f"topic {world.topic}")], permission=_DENY)
        with pytest.raises(Misconfigured, match=f"the right Write on topic {world.topic} is missing"):
            await sink.write(make_batch(FIRST + 1))
    assert await World(strict_kafka.bootstrap_servers, unique).sequences() == [FIRST]
