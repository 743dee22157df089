"""What brokers must allow a pipeline's login, and no more. Pure.

    Write            on the transactional id   fence the predecessor, ask how its last transaction ended, write
    Write            on each topic             the events, and the checkpoint
    Read             on each topic             the checkpoint; of events, what a broker's crash left undecided
    Create           on each topic             only with `create: true`
    DescribeConfigs  on each topic             cleanup.policy and max.message.bytes; done without if need be

Kafka derives Describe from Read and from Write. Read on a topic of events is needed only after a broker's crash, and
must not be found missing on that day: brokers tell what a login may do with a topic, so each opening looks at it.
"""

from __future__ import annotations

from aiokafka import errors as kafka

_BITS = {"Read": 3, "Write": 4}  # Kafka's numbers of these operations


class Denied(kafka.KafkaError):
    """The login may not do this with a topic or a transactional id."""

    def __init__(self, right: str, resource: str) -> None:
        super().__init__(f"{right} on {resource}")


def check_topic(name: str, allowed: int | None) -> None:
    """`allowed` are the bits of the operations that the broker allows; None when it did not tell. Raises Denied."""
    for right, bit in _BITS.items():
        if allowed is not None and not allowed >> bit & 1:
            raise Denied(right, f"topic {name}")


def permissions(transactional_id: str, checkpoint: str, topic: str | None, prefix: str, *, create: bool) -> list[str]:
    """One line for each resource. Without a constant `topic`, those of events begin with `prefix`."""
    rights = "Read, Write, DescribeConfigs" + (", Create" if create else "")
    events = f"topic {topic}" if topic is not None else f"topics beginning with {prefix}" if prefix else "topic *"
    return [
        f"Write on transactional id {transactional_id}",
        f"{rights} on topic {checkpoint}",
        f"{rights} on {events}",
    ]
