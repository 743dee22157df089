"""The checkpoint record, what became of its topics, and how an orphaned transaction must end. All pure."""

from __future__ import annotations

import orjson
import pytest
from aiokafka import TopicPartition

from oplogbridge import Misconfigured
from oplogbridge.testing.sink_rig import assert_ends_in_a_next_step
from oplogbridge.values import OFFSET_MAX
from oplogbridge_sinks.kafka.checkpoint import Checkpoint, WrittenTopic, decode, encode
from oplogbridge_sinks.kafka.cluster import Topic
from oplogbridge_sinks.kafka.orphans import Orphan, outcome_is_commit
from oplogbridge_sinks.kafka.producer import LastTransaction
from oplogbridge_sinks.kafka.topics import changes

ID, OTHER_ID = "R3Zt0TWfTLqBkXhSxsvtEg", "aaaaaaaaaaaaaaaaaaaaaQ"
GOOD = {"v": 1, "offset": "7", "source": "/oplogs/shop", "destination": "kafka:oplog.shop", "topics": {}}


@pytest.mark.parametrize("offset", [0, 1, 2**53 + 1, OFFSET_MAX])
def test_a_checkpoint_comes_back_as_it_went(offset: int) -> None:
    checkpoint = Checkpoint(offset, "/oplogs/shop", "kafka:oplog.shop", {"oplog.shop": WrittenTopic(ID, 4)})
    assert decode(encode(checkpoint), "t") == checkpoint


def test_the_offset_is_text() -> None:
    record = orjson.loads(encode(Checkpoint(OFFSET_MAX, "s", "d", {"oplog.shop": WrittenTopic(ID, 4)})))
    assert record["offset"] == "9223372036854775808"
    assert record["topics"] == {"oplog.shop": {"id": ID, "partitions": 4}}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"else",
        b"[]",
        b"{}",
        b'"1"',
        orjson.dumps(GOOD | {"offset": "-1"}),
        orjson.dumps(GOOD | {"offset": "9223372036854775809"}),
        orjson.dumps(GOOD | {"offset": "seven"}),
        orjson.dumps(GOOD | {"v": 0}),
        orjson.dumps(GOOD | {"v": "1"}),
        orjson.dumps(GOOD | {"topics": None}),
        orjson.dumps(GOOD | {"topics": {"t": {"id": ID}}}),
        orjson.dumps({key: GOOD[key] for key in GOOD if key != "source"}),
    ],
)
def test_what_is_no_checkpoint_stops_the_pipeline(value: bytes) -> None:
    with pytest.raises(Misconfigured, match=r"bridge\.orders\.checkpoint is no checkpoint") as stopped:
        decode(value, "bridge.orders.checkpoint")
    assert_ends_in_a_next_step(stopped.value)


def test_a_newer_version_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="format version 2, this oplog-bridge knows 1"):
        decode(orjson.dumps(GOOD | {"v": 2, "offset": {"new": "shape"}}), "t")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Topic("t", ID, (1, 1)), None),
        (Topic("t", OTHER_ID, (1, 1)), "deleted and made again"),
        (Topic("t", ID, (1, 1, 1)), "had 2 partitions and now has 3"),
        (None, "is gone"),
        (Topic("t", "", (1, 1)), None),  # a broker too old to name ids
    ],
)
def test_what_became_of_a_topic(found: Topic | None, said: str | None) -> None:
    lines = changes({"t": WrittenTopic(ID, 2)}, {} if found is None else {"t": found})
    assert (said is None and lines == []) or (said is not None and said in lines[0])


def _orphan(partition: int, sequence: int | None, epoch: int = 5) -> Orphan:
    return Orphan(TopicPartition("t", partition), epoch, sequence)


CHECKPOINT = _orphan(9, None)


@pytest.mark.parametrize(
    ("orphans", "last", "visible", "commit"),
    [
        pytest.param([CHECKPOINT, _orphan(0, 100)], None, [], False, id="nothing of it can be read"),
        pytest.param([CHECKPOINT, _orphan(0, 100)], None, [99], False, id="only earlier ones can be read"),
        pytest.param([CHECKPOINT, _orphan(0, 100)], None, [101], True, id="another partition shows its part"),
        pytest.param([_orphan(0, 90)], None, [], True, id="the checkpoint covers it"),
        pytest.param([_orphan(0, 100)], None, [], False, id="the checkpoint's part was aborted"),
        pytest.param([CHECKPOINT], None, [100], True, id="only the checkpoint hangs"),
        pytest.param([CHECKPOINT], LastTransaction("CompleteCommit", 1, 5), [], True, id="remembered"),
        pytest.param([CHECKPOINT], LastTransaction("PrepareCommit", 1, 5), [], True, id="remembered, being ended"),
        pytest.param([CHECKPOINT], LastTransaction("CompleteAbort", 1, 5), [], False, id="remembered as aborted"),
        pytest.param([CHECKPOINT], LastTransaction("CompleteCommit", 1, 6), [], False, id="of another epoch"),
    ],
)
def test_how_an_orphan_ends(
    orphans: list[Orphan], last: LastTransaction | None, visible: list[int], commit: bool
) -> None:
    assert outcome_is_commit(orphans, last, 100, visible) is commit
