"""Keys land where every other client looks for them: Java's murmur2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge_sinks.kafka.partitions import Partitioner, murmur2, murmur2_many

# From Apache Kafka's own UtilsTest.testMurmur2, signed as Java prints them.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
def test_a_hash_is_what_java_computes(key: bytes) -> None:
    assert murmur2(key) == JAVA[key] % 2**32
    assert murmur2_many([key]) == [JAVA[key] % 2**32]


@pytest.mark.parametrize("key", JAVA)
def test_a_partition_is_the_hash_without_its_sign(key: bytes) -> None:
    assert Partitioner().partitions([key], 7) == [(JAVA[key] & 0x7FFFFFFF) % 7]


@given(st.lists(st.binary(max_size=24), max_size=120))
def test_hashing_side_by_side_changes_nothing(keys: list[bytes]) -> None:
    assert murmur2_many(keys) == [murmur2(key) for key in keys]


@pytest.mark.parametrize("length", range(13))
@pytest.mark.parametrize("count", [15, 16, 17, 1024, 1025])
def test_every_length_and_every_number_of_lanes(length: int, count: int) -> None:
    keys = [bytes((index * 31 + byte * 7) % 256 for byte in range(length)) for index in range(count)]
    assert murmur2_many(keys) == [murmur2(key) for key in keys]


def test_a_single_partition_needs_no_hash() -> None:
    assert Partitioner().partitions([b"a", b"b"], 1) == [0, 0]


def test_what_is_remembered_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Partitioner, "GENERATION_KEYS_MAX", 10)
    partitioner = Partitioner()
    keys = [b"user/%d" % number for number in range(200)]

    for begin in range(0, 200, 3):
        part = keys[begin : begin + 3] + keys[:2]
        assert partitioner.partitions(part, 5) == [(murmur2(key) & 0x7FFFFFFF) % 5 for key in part]
        assert len(partitioner._young) <= 10
        assert len(partitioner._old) <= 10
