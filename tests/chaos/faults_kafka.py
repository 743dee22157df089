"""What a Kafka can do to topics and transactions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import rig
from chaos.destinations import KafkaDestination
from chaos.line import Line
from kafka_reader import admin, delete_topic

HOLD_SECONDS = 4.0
END_TXN = b"\x00\x1a"  # the key of the request that ends a transaction, behind its length
CHECKPOINT = "oplog-bridge.copy.checkpoint"
ORPHANS_MIN = 3
ORPHAN_KILLS_MAX = 120
# What a restarted coordinator says when it ends a transaction without telling its partitions.
SKIPPED = re.compile(r"likely deleted already and hence can be skipped")


def _kafka(line: Line) -> KafkaDestination:
    assert isinstance(line.destination, KafkaDestination)
    return line.destination


def _run(line: Line, call: Coroutine[Any, Any, Any]) -> Any:
    return _kafka(line).background.run(call)


def _ends_transaction(chunk: bytes) -> bool:
    return chunk[4:6] == END_TXN


def commit_answer_lost(line: Line) -> None:
    """The commit arrives, and its answer does not: nobody knows whether it counts."""
    line.start()
    wire = _kafka(line).wire
    assert wire is not None
    for _ in line.struck():
        dropped = wire.reset_before_reply(_ends_transaction)
        line.work(100)
        assert wire.happened(dropped, rig.WITHIN_SECONDS), "no commit was sent"
        with line.recovery():
            pass


def slow_coordinator(line: Line) -> None:
    """The broker stands still for four seconds from the moment in which a commit is sent."""
    line.start()
    wire = _kafka(line).wire
    assert wire is not None
    for _ in line.struck():
        seen = wire.saw(_ends_transaction)
        line.work(100)
        assert wire.happened(seen, rig.WITHIN_SECONDS), "no commit was sent"
        line.destination.server.pause()
        line.wait(HOLD_SECONDS)
        line.destination.server.resume()
        with line.recovery():
            pass


def orphans(line: Line) -> None:
    """The broker is killed while a transaction is being committed, until it has three times forgotten to end one."""
    line.start()
    kafka = _kafka(line)
    wire = kafka.wire
    assert wire is not None
    partitions: list[int] = []
    while len(partitions) < max(ORPHANS_MIN, line.times) and line.strikes < ORPHAN_KILLS_MAX:
        line.strikes += 1
        before = kafka.server.log_path.stat().st_size
        seen = wire.saw(_ends_transaction)
        line.work(100)
        assert wire.happened(seen, rig.WITHIN_SECONDS), "no commit was sent"
        line.bridge.exited(line.moments.uniform(0.0, 0.004))
        kafka.kill()
        kafka.restart()
        with line.recovery():
            pass
        with kafka.server.log_path.open("rb") as log:
            log.seek(before)
            skipped = len(SKIPPED.findall(log.read().decode(errors="replace")))
        if skipped:
            partitions.append(skipped)
    assert len(partitions) >= ORPHANS_MIN, f"{len(partitions)} orphans in {line.strikes} kills"
    line.note(f"{len(partitions)} orphaned transactions survived")


def too_few_replicas(line: Line) -> None:
    """`min.insync.replicas` is more than there are."""
    line.start()

    async def replicas(count: int) -> None:
        async with admin(_kafka(line).server.bootstrap_servers) as client:
            resource = ConfigResource(
                ConfigResourceType.TOPIC, _kafka(line).topic, configs={"min.insync.replicas": str(count)}
            )
            await client.alter_configs([resource])

    for _ in line.struck():
        _run(line, replicas(2))
        line.work()
        line.wait(HOLD_SECONDS)
        _run(line, replicas(1))
        with line.recovery():
            pass


def checkpoint_deleted(line: Line) -> None:
    """The topic with the position is deleted; the state store knows that there was one."""
    line.start()
    for _ in line.struck():
        line.delivered()
        line.saved()
        next_offset = line.newest_written + 1
        line.bridge.kill()
        _run(line, delete_topic(_kafka(line).server.bootstrap_servers, CHECKPOINT))
        mark = line.mark()
        line.work()
        line.bridge.start()
        line.said_since(mark, "the destination's position is gone")
        line.decide(next_offset)
    line.note("stops and says so; goes on after `offsets set`")


def topic_again(line: Line) -> None:
    """The topic is deleted and made again: what was in it is gone for good."""
    line.start()
    for _ in line.struck():
        line.delivered()
        line.saved()
        line.destroyed_so_far()
        next_offset = line.newest_written + 1
        _run(line, delete_topic(_kafka(line).server.bootstrap_servers, _kafka(line).topic))
        mark = line.mark()
        line.work()
        line.said_since(mark, "readers may miss or mix")
        _run(line, _kafka(line).forget())
        line.decide(next_offset)
    line.note("stops and says so; goes on after `offsets set`")


def partitions_added(line: Line) -> None:
    """Keys would move between partitions: a person has to say that it is meant."""
    line.start()

    async def more() -> None:
        async with admin(_kafka(line).server.bootstrap_servers) as client:
            await client.create_partitions({_kafka(line).topic: NewPartitions(3 + line.strikes)})
            await asyncio.sleep(0)

    for _ in line.struck():
        line.delivered()
        line.saved()
        next_offset = line.newest_written + 1
        line.bridge.kill()
        _run(line, more())
        _run(line, _kafka(line).forget())
        mark = line.mark()
        line.work()
        line.bridge.start()
        line.said_since(mark, "readers may miss or mix")
        line.decide(next_offset)
    line.note("stops and says so; goes on after `offsets set`")
