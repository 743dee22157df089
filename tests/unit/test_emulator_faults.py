"""The queue of faults: which one strikes, when and how often."""

from __future__ import annotations

import pytest

from oplogbridge.emulator.faults import Fault, FaultQueue, Stage


def struck(faults: FaultQueue, stage: Stage, requests: int) -> list[str | None]:
    kinds = []
    for _ in range(requests):
        fault = faults.first(stage)
        kinds.append(None if fault is None else f"{fault.kind}{fault.status or ''}")
    return kinds


def test_a_fault_strikes_once_unless_said_otherwise() -> None:
    faults = FaultQueue()
    faults.add("reset")

    assert struck(faults, "instead", 3) == ["reset", None, None]
    assert len(faults) == 0


def test_three_digits_are_a_status() -> None:
    faults = FaultQueue()
    faults.add("429", count=2, retry_after_seconds=3)

    assert struck(faults, "instead", 3) == ["status429", "status429", None]


def test_faults_of_one_stage_strike_in_the_order_of_the_queue() -> None:
    faults = FaultQueue()
    faults.add("500", count=2)
    faults.add("html")

    assert struck(faults, "instead", 4) == ["status500", "status500", "html", None]


def test_after_lets_requests_pass_first() -> None:
    faults = FaultQueue()
    faults.add("500", after=2)

    assert struck(faults, "instead", 4) == [None, None, "status500", None]


def test_a_fault_without_count_strikes_until_it_is_cleared() -> None:
    faults = FaultQueue()
    id_ = faults.add("500", count=None)
    assert struck(faults, "instead", 3) == ["status500"] * 3

    faults.clear(id_)

    assert struck(faults, "instead", 1) == [None]


def test_what_another_stage_draws_is_not_used_up() -> None:
    faults = FaultQueue()
    faults.add("cut")
    faults.add("short_page")

    assert struck(faults, "instead", 2) == [None, None]
    assert len(faults) == 2


def test_all_due_faults_of_a_page_strike_together() -> None:
    faults = FaultQueue()
    faults.add("duplicate_entry")
    faults.add("out_of_order")
    faults.add("short_page", after=1)

    assert [ordered.fault.kind for ordered in faults.all("page")] == ["duplicate_entry", "out_of_order"]
    assert [ordered.fault.kind for ordered in faults.all("page")] == ["short_page"]


def test_probability_is_drawn_from_the_seed() -> None:
    def run(seed: int) -> list[str | None]:
        faults = FaultQueue(seed)
        faults.add("500", count=None, probability=0.5)
        return struck(faults, "instead", 200)

    assert run(3) == run(3)
    assert 60 < run(3).count("status500") < 140


@pytest.mark.parametrize("kind", ["sloow", "4290", "099", ""])
def test_an_unknown_kind_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ValueError, match="no fault"):
        FaultQueue().add(kind)


def test_a_status_fault_must_name_its_status() -> None:
    with pytest.raises(ValueError, match="needs a 'status'"):
        Fault(kind="status")


def test_a_sequence_may_be_given_as_text() -> None:
    assert Fault(kind="rewind", sequence="9223372036854775807").sequence_number == 9223372036854775807


def test_a_fault_may_be_there_for_a_time_by_the_clock() -> None:
    now = 100.0
    faults = FaultQueue(monotonic=lambda: now)
    faults.add("503", count=None, delay_seconds=10, duration_seconds=5)

    seen = {}
    for moment in (100.0, 109.9, 110.0, 114.9, 115.0):
        now = moment
        seen[moment] = struck(faults, "instead", 1) == ["status503"]

    assert seen == {100.0: False, 109.9: False, 110.0: True, 114.9: True, 115.0: False}
    assert len(faults) == 0
