"""The servers that the other tests stand on: if one of these fails, look here first."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError

from services import KafkaServer, RedisServer, ServerFailed, free_port

TESTS_DIR = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def secured_kafka(request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    request.getfixturevalue("kafka_server")  # skips when there is no Kafka here
    with KafkaServer().start(secured=True) as server:
        yield server


def redis_client(server: RedisServer, **options: object) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True, **options)


def test_redis_keeps_its_port_and_its_data_through_a_kill(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(config={"appendfsync": "always"})
    with redis_client(server) as client:
        client.set("kept", "yes")
    port = server.port
    server.kill()
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    server.restart()
    assert server.port == port
    with redis_client(server) as client:
        assert client.get("kept") == "yes"


def test_redis_takes_a_password_an_acl_and_a_memory_limit(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(
        config={"maxmemory": "64mb"}, acl=["user default off", "user bridge on >secret ~oplog:* &* +@all"]
    )
    with redis.Redis(port=server.port, username="bridge", password="secret", decode_responses=True) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("elsewhere", "1")
    with redis_client(own_redis(config={"requirepass": "pass:word"})) as client:
        assert client.ping()


def test_a_redis_replica_follows_its_primary(own_redis: Callable[..., RedisServer]) -> None:
    primary = own_redis()
    replica = own_redis(replica_of=primary)
    with redis_client(primary) as writer:
        writer.set("k", "v")
        assert writer.wait(num_replicas=1, timeout=10_000) == 1
    with redis_client(replica) as reader:
        assert reader.get("k") == "v"


def test_a_paused_server_accepts_and_does_not_answer(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    server.pause()
    with redis_client(server, socket_timeout=0.05, retry=None) as client, pytest.raises(redis.exceptions.TimeoutError):
        client.ping()
    server.resume()
    with redis_client(server) as client:
        assert client.ping()


def test_a_server_that_cannot_start_shows_its_log(own_redis: Callable[..., RedisServer]) -> None:
    with pytest.raises(ServerFailed, match="no-such-directive"):
        own_redis(config={"no-such-directive": "1"})


def test_a_port_that_is_taken_is_named(own_redis: Callable[..., RedisServer]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ServerFailed, match=f"port {port}"):
        own_redis(port=port)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the server: Linux only")
def test_servers_end_with_an_owner_that_was_killed() -> None:
    program = "import services; s = services.RedisServer().start(); print(s.port, s.data_dir, flush=True); input()"
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=TESTS_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        port, data_dir = owner.stdout.readline().split()
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as connection:
            os.kill(owner.pid, signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b"", "its end of the connection closes when the server is gone"
    for left_behind in sorted(Path(data_dir).rglob("*"), reverse=True):  # a killed owner cannot tidy up
        left_behind.rmdir() if left_behind.is_dir() else left_behind.unlink()
    Path(data_dir).rmdir()


async def test_kafka_keeps_what_it_acknowledged_through_a_kill(own_kafka: Callable[..., KafkaServer]) -> None:
    server = own_kafka()
    await create_topic(server.bootstrap_servers, "kept")
    async with AIOKafkaProducer(bootstrap_servers=server.bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("kept", b"event")
    server.kill()
    server.restart()
    assert await first_value(server.bootstrap_servers, "kept") == b"event"


async def test_clients_of_the_proxied_listener_are_told_the_proxy(kafka_server: KafkaServer) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{kafka_server.behind_proxy_port}")
    # Bootstrapped past the proxy: the broker's own address must then be the proxy's, where nobody listens.
    await admin._client.bootstrap()
    try:
        brokers = admin._client.cluster.brokers()
        assert [broker.port for broker in brokers] == [kafka_server.proxied_port]
    finally:
        await admin.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_kafka_lets_in_over_tls_whoever_knows_the_password(mechanism: str, secured_kafka: KafkaServer) -> None:
    def producer(password: str) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=secured_kafka.secured_bootstrap_servers,
            security_protocol="SASL_SSL",
            ssl_context=ssl.create_default_context(cafile=secured_kafka.ca_path),
            sasl_mechanism=mechanism,
            sasl_plain_username=secured_kafka.username,
            sasl_plain_password=password,
        )

    async with producer(secured_kafka.password) as client:
        assert client.client.cluster.brokers()
    stranger = producer("wrong")
    with pytest.raises(KafkaConnectionError):
        await stranger.start()
    await stranger.stop()


def test_people_start_ask_and_stop_a_server_by_command(tmp_path: Path) -> None:
    def services(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TESTS_DIR / "services"), *arguments]
        environment = {**os.environ, "OPLOG_BRIDGE_SERVICES_DIR": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert services("status", "redis").returncode == 3
    started = services("start", "redis")
    assert started.stdout.startswith("export OPLOG_BRIDGE_REDIS_URL=redis://127.0.0.1:"), started.stderr
    assert services("start", "redis").stdout == services("status", "redis").stdout == started.stdout
    assert services("stop", "redis").returncode == 0
    assert services("status", "redis").returncode == 3


async def create_topic(bootstrap_servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def first_value(bootstrap_servers: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with consumer:
        return (await consumer.getone()).value
