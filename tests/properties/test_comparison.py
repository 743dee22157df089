"""The comparison against a naive oracle: whatever was done to a destination, the kinds of differences are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.sink import Delivered, Lane
from oplogbridge.testing.sink_rig import make_event
from oplogbridge.verify.comparison import Comparison
from oplogbridge.verify.findings import DIFFERENCES, Findings
from oplogbridge.verify.order import LaneOrder, longest_ascending

LANES = 3
SEQUENCES = range(10, 30)


def lane_name(sequence: int) -> str:
    return f"lane-{sequence % LANES}"


def delivered(sequence: int, lane: str, *, altered: bool = False) -> Delivered:
    event = make_event(sequence)
    payload = event.payload + b" " if altered else event.payload
    return Delivered(sequence, event.id, event.key, payload, lane, "somewhere")


def compared(
    lanes: dict[str, list[Delivered]], sequences: Sequence[int], window: int, page: int, ahead: int
) -> Findings:
    comparison = Comparison(
        [Lane(name, None) for name in lanes],
        shown=lambda event: event.payload,
        lane_of=lambda event: lane_name(event.sequence),
    )
    rest = {name: list(events) for name, events in lanes.items()}
    orders = {name: LaneOrder(ahead) for name in lanes}
    for begin in range(0, 50, window):
        below = begin + window
        comparison.expect([make_event(one) for one in sequences if begin <= one < below], below, None)
        for name, order in orders.items():
            while True:
                while order.wants_more(below):
                    if not rest[name]:
                        order.end()
                    comparison.found([], order.add(rest[name][:page]))
                    del rest[name][:page]
                comparison.found(*order.take(below))
                if order.is_past(below):
                    break
        comparison.close()
    return comparison.end()


def expected_counts(lanes: dict[str, list[Delivered]], sequences: Sequence[int]) -> Counter[str]:
    """With the whole destination in memory."""
    there = Counter(one.sequence for events in lanes.values() for one in events)
    counts: Counter[str] = Counter()
    counts["missing"] = sum(sequence not in there for sequence in sequences)
    counts["extra"] = sum(count for sequence, count in there.items() if sequence not in sequences)
    counts["duplicate"] = sum(count - 1 for sequence, count in there.items() if sequence in sequences)
    return counts


changes = st.lists(
    st.tuples(st.sampled_from(["delete", "copy", "swap", "alter", "invent"]), st.integers(0, 200), st.integers(0, 200)),
    max_size=6,
)


@given(changes, st.integers(1, 50), st.integers(1, 9), st.sets(st.sampled_from(SEQUENCES)))
def test_whatever_was_done_to_a_destination_is_found_and_nothing_else(
    done: list[tuple[str, int, int]], window: int, page: int, gone: set[int]
) -> None:
    sequences = [one for one in SEQUENCES if one not in gone]
    lanes: dict[str, list[Delivered]] = {f"lane-{number}": [] for number in range(LANES)}
    for sequence in sequences:
        lanes[lane_name(sequence)].append(delivered(sequence, lane_name(sequence)))
    altered: set[int] = set()
    for what, one, other in done:
        events = lanes[f"lane-{one % LANES}"]
        if what == "invent":
            events.insert(other % (len(events) + 1), delivered(40 + one % 3, f"lane-{one % LANES}"))
        elif events:
            here, there = one % len(events), other % len(events)
            if what == "delete":
                del events[here]
            elif what == "copy":
                events.insert(there, events[here])
            elif what == "swap":
                events[here], events[there] = events[there], events[here]
            else:
                sequence = events[here].sequence
                assert sequence is not None
                altered.add(sequence)
                lane = events[here].lane
                lanes[lane] = [delivered(sequence, lane, altered=True) if e.sequence == sequence else e for e in events]

    found = compared(lanes, sequences, window, page, ahead=100)

    counts = expected_counts(lanes, sequences)
    assert {kind: found.counts[kind] for kind in ("missing", "extra", "duplicate")} == {
        kind: counts[kind] for kind in ("missing", "extra", "duplicate")
    }
    assert {one.id for one in found.listed.get("altered", [])} == {
        str(sequence)
        for sequence in altered & set(sequences)
        if any(one.sequence == sequence for events in lanes.values() for one in events)
    }
    astray = sum(
        len(ours := [one.sequence for one in events if one.sequence is not None]) - len(longest_ascending(ours))
        for events in lanes.values()
    )
    # Of what stands out of order, copies are duplicates and inventions are extra.
    assert found.counts["reordered"] <= astray
    if not counts["duplicate"] and not counts["extra"]:
        assert found.counts["reordered"] == astray
    assert found.differ == any(found.counts[kind] for kind in DIFFERENCES)
    assert not found.coarse


@given(changes, st.integers(1, 50), st.integers(1, 9), st.integers(0, 4))
def test_however_little_is_looked_ahead_nothing_missing_or_altered_is_passed_over(
    done: list[tuple[str, int, int]], window: int, page: int, ahead: int
) -> None:
    lane = [delivered(sequence, "lane-0") for sequence in SEQUENCES]
    for what, one, other in done:
        here, there = one % len(lane), other % len(lane)
        if what == "delete" and len(lane) > 1:
            del lane[here]
        elif what == "swap":
            lane[here], lane[there] = lane[there], lane[here]

    found = compared({"lane-0": lane}, list(SEQUENCES), window, page, ahead)

    there_are = {one.sequence for one in lane}
    assert [int(one.id or 0) for one in found.listed.get("missing", [])] == [s for s in SEQUENCES if s not in there_are]
    assert found.matched == len(lane)
    assert (found.counts["duplicate"], found.counts["extra"]) == (0, 0)
    in_order = [one.sequence for one in lane] == sorted(there_are)  # type: ignore[type-var]
    assert (found.counts["reordered"] == 0) == in_order


@given(st.lists(st.integers(0, 12), max_size=9))
def test_no_longer_ascending_run_exists(sequences: list[int]) -> None:
    def longest(rest: list[int], above: int) -> int:
        return max([1 + longest(rest[at + 1 :], one) for at, one in enumerate(rest) if one > above], default=0)

    kept = sorted(longest_ascending(sequences))
    run = [sequences[index] for index in kept]

    assert run == sorted(set(run))
    assert len(run) == longest(sequences, -1)
