"""Servers, unique names and hypothesis profiles for every test."""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

import planted
from needed import IN_CI, needed
from services import KafkaServer, NatsServer, RedisCluster, RedisSentinels, RedisServer

_Server = TypeVar("_Server", RedisServer, RedisSentinels, RedisCluster, KafkaServer, NatsServer)

# A slow machine is no counterexample, and a failure prints the line that repeats it.
settings.register_profile("laptop", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if IN_CI else "laptop")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-servers", action="store_true", help="skip what needs a real Redis or Kafka")


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads its seed
def pytest_configure(config: pytest.Config) -> None:
    # SIGTERM would end Python without its exit handlers; as a Ctrl-C it unwinds the fixtures and ends the servers.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    told = getattr(config, "workerinput", {}).get("hypothesis_seed")  # one seed for all workers: the one in the header
    if told is not None or config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = told or str(int.from_bytes(os.urandom(4)))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_configure_node(node: Any) -> None:
    node.workerinput["hypothesis_seed"] = node.config.option.hypothesis_seed


def pytest_report_header(config: pytest.Config) -> str:
    return f"repeat the generated cases with: --hypothesis-seed={config.getoption('hypothesis_seed')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """What a test that passed has printed or logged, in this process or in its own, shows no secret."""
    report = yield
    if report.passed:
        shown = [f"{secret} in {name}" for name, text in report.sections for secret in planted.shown_in(text)]
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if call.when == "call" and folder is not None:
            shown += planted.shown_in_logs(folder)
        if shown:
            report.outcome = "failed"
            report.longrepr = f"secrets are shown: {', '.join(shown)}"
    return report


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name of this test alone for its topics, keys and streams; printed, so that what a failure left can be found."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    name = f"{words[:24].rstrip('-')}-{uuid.uuid4().hex[:8]}"
    print(f"unique name: {name}")
    return name


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """The Redis that all tests share. Whoever kills, fills or reconfigures one takes `own_redis`."""
    with _or_skip(RedisServer, pytestconfig) as server:
        yield server


@pytest.fixture(scope="session")
def redis_sentinels(pytestconfig: pytest.Config) -> Iterator[RedisSentinels]:
    """A master, a replica and three sentinels that all tests share. Whoever kills one takes `own_redis_sentinels`."""
    with _or_skip(RedisSentinels, pytestconfig) as sentinels:
        yield sentinels


@pytest.fixture(scope="session")
def redis_cluster(pytestconfig: pytest.Config) -> Iterator[RedisCluster]:
    """Three masters that all tests share; slots may be moved, each test has keys of its own."""
    with _or_skip(RedisCluster, pytestconfig) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_server(pytestconfig: pytest.Config) -> Iterator[KafkaServer]:
    """The Kafka that all tests share. Whoever kills or reconfigures one takes `own_kafka`."""
    with _or_skip(KafkaServer, pytestconfig) as server:
        yield server


@pytest.fixture(scope="session")
def nats_server(pytestconfig: pytest.Config) -> Iterator[NatsServer]:
    """The NATS that all tests share. Whoever kills or reconfigures one takes `own_nats`."""
    with _or_skip(NatsServer, pytestconfig) as server:
        yield server


@pytest.fixture
def own_nats(pytestconfig: pytest.Config) -> Iterator[Callable[..., NatsServer]]:
    """`own_nats(**options of NatsServer.start)`: a server of this test alone, gone with it."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(_or_skip(NatsServer, pytestconfig, **options))


@pytest.fixture
def own_redis(pytestconfig: pytest.Config) -> Iterator[Callable[..., RedisServer]]:
    """`own_redis(**options of RedisServer.start)`: a server of this test alone, gone with it."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(_or_skip(RedisServer, pytestconfig, **options))


@pytest.fixture
def own_redis_sentinels(pytestconfig: pytest.Config) -> Iterator[Callable[..., RedisSentinels]]:
    """`own_redis_sentinels(**options of RedisSentinels.start)`: of this test alone, gone with it."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(_or_skip(RedisSentinels, pytestconfig, **options))


@pytest.fixture
def own_redis_cluster(pytestconfig: pytest.Config) -> Iterator[Callable[..., RedisCluster]]:
    """`own_redis_cluster(**options of RedisCluster.start)`: of this test alone, gone with it."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(_or_skip(RedisCluster, pytestconfig, **options))


@pytest.fixture
def own_kafka(pytestconfig: pytest.Config) -> Iterator[Callable[..., KafkaServer]]:
    """`own_kafka(**options of KafkaServer.start)`: a server of this test alone, gone with it."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(_or_skip(KafkaServer, pytestconfig, **options))


def _or_skip(kind: type[_Server], pytestconfig: pytest.Config, /, **options: object) -> _Server:
    if pytestconfig.getoption("--no-servers"):
        pytest.skip(f"needs a real {kind.name}, and --no-servers was given")
    server = kind()
    try:
        with needed():
            return server.start(**options)
    except BaseException:
        server.close()
        raise
