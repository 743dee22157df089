"""What a Kafka can do to topics and transactions."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import rig
from chaos.destinations import NAME, PARTITIONS, KafkaDestination
from chaos.faults_network import answer_lost, to_destination
from chaos.line import Line
from kafka_reader import add_partitions, admin, delete_topic

HOLD_SECONDS = 4.0
END_TXN = b"\x00\x1a"  # the key of the request that ends a transaction, behind its length
CHECKPOINT = "oplog-bridge.copy.checkpoint"
ORPHANS_MIN = 3
ORPHAN_KILLS_MAX = 120
# What a restarted coordinator says when it ends a transaction without telling its partitions.
FORGOTTEN = b"likely deleted already and hence can be skipped"
GO_ON = "stops and says so; goes on after `offsets set`"


def _kafka(line: Line) -> KafkaDestination:
    assert isinstance(line.destination, KafkaDestination)
    return line.destination


def _servers(line: Line) -> str:
    return _kafka(line).server.bootstrap_servers


def _run(line: Line, call: Coroutine[Any, Any, Any]) -> Any:
    return _kafka(line).background.run(call)


def _ends_transaction(chunk: bytes) -> bool:
    return chunk[4:6] == END_TXN


def _until_a_commit(line: Line) -> None:
    """The next request that ends a transaction is on its way."""
    wire = to_destination(line)
    seen = wire.saw(_ends_transaction)
    line.work(100)
    assert wire.happened(seen, rig.WITHIN_SECONDS), "no commit was sent"


# The commit arrives, and its answer does not: nobody knows whether it counts.
commit_answer_lost = answer_lost(to_destination, _ends_transaction)


def slow_coordinator(line: Line) -> None:
    """The broker stands still for four seconds from the moment in which a commit is sent."""
    line.start()
    for _ in line.struck():
        _until_a_commit(line)
        line.destination.server.pause()
        line.wait(HOLD_SECONDS)
        line.destination.server.resume()
        line.recovered()


def orphans(line: Line) -> None:
    """The broker is killed while a transaction is being committed, until it has three times forgotten to end one."""
    line.start()
    kafka, forgot = _kafka(line), 0
    while forgot < max(ORPHANS_MIN, line.times) and line.strikes < ORPHAN_KILLS_MAX:
        line.strikes += 1
        before = kafka.server.log_path.stat().st_size
        _until_a_commit(line)
        line.wait(line.moments.uniform(0.0, 0.004))
        kafka.kill()
        kafka.restart()
        line.recovered()
        with kafka.server.log_path.open("rb") as log:
            log.seek(before)
            forgot += FORGOTTEN in log.read()
    assert forgot >= ORPHANS_MIN, f"{forgot} orphans in {line.strikes} kills"
    line.note(f"{forgot} orphaned transactions survived")


def too_few_replicas(line: Line) -> None:
    """`min.insync.replicas` is more than there are."""
    line.start()

    async def replicas(count: int) -> None:
        async with admin(_servers(line)) as client:
            configs = {"min.insync.replicas": str(count)}
            await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, NAME, configs=configs)])

    for _ in line.struck():
        _run(line, replicas(2))
        line.works_for(HOLD_SECONDS)
        _run(line, replicas(1))
        line.recovered()


def checkpoint_deleted(line: Line) -> None:
    """The topic with the position is deleted; the state store knows that there was one."""
    line.start()
    for _ in line.struck():
        offset = line.settled()
        line.bridge.kill()
        _run(line, delete_topic(_servers(line), CHECKPOINT))
        mark = line.mark()
        line.work()
        line.bridge.start()
        line.decided(mark, "the destination's position is gone", offset)
    line.note(GO_ON)


def topic_again(line: Line) -> None:
    """The topic is deleted and made again: what was in it is gone for good."""
    line.start()
    for _ in line.struck():
        offset = line.settled()
        line.destroyed_so_far()
        _run(line, delete_topic(_servers(line), NAME))
        _run(line, _kafka(line).forget())
        mark = line.mark()
        line.work()
        line.decided(mark, "readers may miss or mix", offset)
    line.note(GO_ON)


def partitions_added(line: Line) -> None:
    """Keys would move between partitions: a person has to say that it is meant."""
    line.start()
    for _ in line.struck():
        offset = line.settled()
        line.bridge.kill()
        _run(line, add_partitions(_servers(line), NAME, PARTITIONS + line.strikes))
        _run(line, _kafka(line).forget())
        mark = line.mark()
        line.work()
        line.bridge.start()
        line.decided(mark, "readers may miss or mix", offset)
    line.note(GO_ON)
