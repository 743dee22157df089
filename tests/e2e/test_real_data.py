"""Real records through the commands into real servers; and that the audit behind it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

import real_data
from services import KafkaServer, RedisServer

RECORDS = 5_000


async def test_what_nobody_here_wrote_arrives_everywhere_once_in_order_and_byte_for_byte(
    kafka_server: KafkaServer, redis_server: RedisServer, tmp_path: Path, unique: str
) -> None:
    lines = tmp_path / "records.jsonl"
    lines.write_bytes(b"".join(line + b"\n" for line in real_data.records(RECORDS)))
    assert lines.read_bytes().count(b"\n") == RECORDS

    with real_data.played(lines) as url:
        found = await real_data.audited(lines, url, kafka_server, redis_server, unique, tmp_path)

    assert found == {"kafka": [], "redis": [], "file": []}


EXPECTED = [(5, b"{}"), (6, b'{"a":1}'), (9, b"{}")]


@pytest.mark.parametrize(
    ("logs", "complaint"),
    [
        ([[(5, b"{}"), (9, b"{}")]], "6 is missing"),
        ([[*EXPECTED, (9, b"{}")]], "9 is there 2 times"),
        ([EXPECTED[:2], EXPECTED[1:]], "6 is there 2 times"),
        ([[EXPECTED[1], EXPECTED[0], EXPECTED[2]]], "log 0: 5 comes after 6"),
        ([[(5, b"{}"), (6, b'{"a": 1}'), (9, b"{}")]], "log 0: the object of 6 is not the input's: b'{\"a\": 1}'"),
        ([[*EXPECTED, (10, b"{}")]], "10 is nothing that the source has"),
    ],
)
def test_the_audit_notices(logs: list[list[real_data.Entry]], complaint: str) -> None:
    assert complaint in real_data.differences(EXPECTED, logs)


def test_the_audit_is_content_with_partitions_that_together_hold_everything_in_order() -> None:
    assert real_data.differences(EXPECTED, [[EXPECTED[0], EXPECTED[2]], [EXPECTED[1]], []]) == []


def test_there_are_records_on_a_machine_without_debians_index(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)

    found = list(real_data.records(RECORDS))

    assert len(found) == RECORDS
    assert "apt-get update" in capsys.readouterr().err
