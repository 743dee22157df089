"""The rights that `check --connect` tells an operator to grant are enough, and none is too much to ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from kafka_reader import admin
from kafka_world import World
from oplogbridge import Misconfigured, SinkContext
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge_sinks.kafka import KafkaSettings, plugin
from services import KafkaServer, MissingServer

_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_LITERAL, _PREFIXED = 3, 4
_RESOURCES = {
    "topic": (2, _LITERAL),
    "topics beginning with": (2, _PREFIXED),
    "transactional id": (5, _LITERAL),
}
_ALLOW = 3


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
    try:
        with KafkaServer().start(secured=True, config=config) as server:
            yield server
    except MissingServer as missing:
        pytest.skip(str(missing))


class Guarded(World):
    """A pipeline whose login may do nothing that was not granted."""

    def __init__(self, server: KafkaServer, name: str, **settings: object) -> None:
        super().__init__(server.secured_bootstrap_servers, name)
        self.server = server
        self.settings = {
            "topic": f"{name}.{{source}}",
            "tls": {"ca": str(server.ca_path)},
            "sasl": {"mechanism": "PLAIN", "username": server.username, "password": server.password},
            **settings,
        }

    @property
    def rights(self) -> list[str]:
        settings = KafkaSettings.model_validate({"bootstrap_servers": self.servers} | self.settings)
        return plugin.permissions(settings, SinkContext(self.owner, "orders", "shop", "any"))

    async def grant(self, lines: list[str]) -> None:
        creations: list[tuple[object, ...]] = []
        for line in lines:
            operations, _, resource = line.partition(" on ")
            words, _, name = resource.rpartition(" ")
            kind, pattern = _RESOURCES[words]
            principal = f"User:{self.server.username}"
            creations += [
                (kind, name, pattern, principal, "*", _OPERATIONS[operation], _ALLOW)
                for operation in operations.split(", ")
            ]
        async with admin(self.server.bootstrap_servers) as client:
            response = await client._send_to_controller(CreateAcls(creations))
        assert all(code == 0 for code, _ in response.results), response


async def test_what_is_asked_for_is_enough(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True)
    await world.grant(world.rights)

    for sequence in (FIRST, FIRST + 1):
        async with world.opened(**world.settings) as sink:
            await sink.write(make_batch(sequence))
            await sink.position()
            await sink.move(sequence + 1)
    assert await World(strict_kafka.bootstrap_servers, unique).sequences() == [FIRST, FIRST + 1]


async def test_it_is_enough_for_topics_that_appear_as_types_do(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True, topic=f"{unique}.{{type}}.{{operation}}")
    await world.grant(world.rights)

    async with world.opened(**world.settings) as sink:
        await sink.write(make_batch(make_event(FIRST), make_event(FIRST + 1, object_type="order")))
    assert await World(strict_kafka.bootstrap_servers, unique).sequences(f"{unique}.order.update") == [FIRST + 1]


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_each_line_is_needed(strict_kafka: KafkaServer, unique: str, missing: int) -> None:
    world = Guarded(strict_kafka, unique, create=True)
    await world.grant([line for number, line in enumerate(world.rights) if number != missing])

    sink = world.sink(**world.settings)
    with pytest.raises(Misconfigured, match="check --connect"):
        await sink.open()
    await sink.close()


async def test_without_the_right_to_read_configurations_it_works(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True)
    await world.grant([line.replace(", DescribeConfigs", "") for line in world.rights])

    async with world.opened(**world.settings) as sink:
        await sink.write(make_batch(FIRST))
    assert await World(strict_kafka.bootstrap_servers, unique).sequences() == [FIRST]


async def test_a_topic_that_may_not_be_written_to_needs_a_person(strict_kafka: KafkaServer, unique: str) -> None:
    world = Guarded(strict_kafka, unique, create=True)
    lines = world.rights
    await world.grant([*lines[:2], lines[2].replace("Write, ", "")])

    async with world.opened(**world.settings) as sink:
        with pytest.raises(Misconfigured, match=world.topic):
            await sink.write(make_batch(FIRST))
    assert await World(strict_kafka.bootstrap_servers, unique).sequences() == []
