"""What a difference is called, and what is none: data models, retention, dead letters, the source's own end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.sink import Delivered, Lane
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Event
from oplogbridge.verify import comparison as comparisons
from oplogbridge.verify.comparison import Comparison
from oplogbridge.verify.findings import DIFFERENCES, Findings
from pages import OBJECT, entry, page

FIRST, COUNT = 100, 10


def events_of(model: str, *, name: str = "Ann", binary: bool = False) -> list[Event]:
    object_ = OBJECT[:-1] + b',"name":"%b"}' % name.encode()
    body = page(*[entry(str(FIRST + n), object_=object_) for n in range(COUNT)]).replace(b"d9cca7", model.encode())
    codec = Codec(source="shop", format="cloudevents", filter=Filter("shop"), binary="ce_" if binary else None)
    return codec.events(PageDecoder().decode(body, 0))


def as_delivered(events: Sequence[Event]) -> list[Delivered]:
    return [Delivered(e.sequence, e.id, e.key, e.payload, "lane", f"line {e.sequence}", e.headers) for e in events]


def compared(
    made: Sequence[Event], there: Sequence[Delivered], *, lane: Lane | None = None, model: str = "new", **options: Any
) -> Findings:
    comparison = Comparison(
        [lane or Lane("lane", None)], shown=lambda event: event.payload, lane_of=lambda _: "lane", **options
    )
    comparison.expect(made, FIRST + COUNT, model)
    comparison.found(there)
    comparison.close()
    return comparison.end()


def counts(findings: Findings) -> dict[str, int]:
    found = {**findings.counts, **findings.apart()}
    return {kind: count for kind, count in found.items() if count}


@pytest.mark.parametrize("binary", [False, True])
def test_what_differs_by_another_data_model_is_re_rendered_and_no_difference(binary: bool) -> None:
    there = as_delivered(events_of("old", name="A.", binary=binary))

    findings = compared(events_of("new", binary=binary), there, binary=binary)

    assert counts(findings) == {"re-rendered": COUNT}
    assert not findings.differ
    assert "old" in findings.listed["re-rendered"][0].detail


@pytest.mark.parametrize("binary", [False, True])
def test_what_differs_under_the_same_data_model_is_altered(binary: bool) -> None:
    there = as_delivered(events_of("new", name="A.", binary=binary))

    assert counts(compared(events_of("new", binary=binary), there, binary=binary)) == {"altered": COUNT}


def test_a_format_that_names_no_data_model_is_never_re_rendered() -> None:
    there = as_delivered(events_of("old", name="A."))

    assert counts(compared(events_of("new"), there, names_model=False)) == {"altered": COUNT}


def test_what_refers_to_attachments_is_rendered_anew_each_time() -> None:
    made, there = events_of("new"), as_delivered(events_of("new", name="A."))
    comparison = Comparison([Lane("lane", None)], shown=lambda event: event.payload, lane_of=lambda _: "lane")
    comparison.expect(made, FIRST + COUNT, "new", {103})
    comparison.found(there)
    comparison.close()
    findings = comparison.end()

    assert counts(findings) == {"re-rendered": 1, "altered": COUNT - 1}
    assert [one.id for one in findings.listed["re-rendered"]] == ["103"]


def test_what_says_that_it_came_late_is_not_reordered() -> None:
    made = events_of("new")
    there = as_delivered(made)
    late = Delivered(103, "103", made[3].key, made[3].payload, "lane", "x", place="109-1")
    comparison = Comparison([Lane("lane", None)], shown=lambda event: event.payload, lane_of=lambda _: "lane")
    comparison.expect(made[:2], 102, "new")
    comparison.found(there[:2], [late])  # read ahead
    comparison.close()
    comparison.expect(made[2:], FIRST + COUNT, "new")
    comparison.found([there[2], *there[4:]])
    comparison.close()
    findings = comparison.end()

    assert (counts(findings), findings.matched) == ({}, COUNT)


def test_another_key_is_altered_and_an_attribute_too() -> None:
    made = events_of("new", binary=True)
    there = as_delivered(made)
    there[3] = Delivered(103, "103", b"user/8", made[3].payload, "lane", "x", made[3].headers)
    there[4] = Delivered(104, "104", made[4].key, made[4].payload, "lane", "x", made[3].headers)

    findings = compared(made, there, binary=True)

    assert [(one.id, one.detail) for one in findings.listed["altered"]] == [
        ("103", "its key is user/8, not user/7"),
        ("104", "its attributes differ"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"lane": Lane("lane", FIRST + 4)}, {"trimmed": 4, "missing": 1}),
        ({"lane": Lane("lane", None, "topic is compacted")}, {"thinned": 5}),
        ({"dead_letters": {100, 101, 106}}, {"dead-lettered": 3, "missing": 2}),
        ({}, {"missing": 5}),
    ],
)
def test_what_is_not_there_has_its_reason(options: dict[str, Any], expected: dict[str, int]) -> None:
    made = events_of("new")
    there = [one for one in as_delivered(made) if one.sequence not in (100, 101, 102, 103, 106)]

    assert counts(compared(made, there, **options)) == expected


def test_what_the_source_does_not_show_any_more_is_older_and_what_it_never_had_is_extra() -> None:
    made = events_of("new")
    foreign = [Delivered(number, str(number), b"k", b"{}", "lane", "x") for number in (7, 99, 109)]
    comparison = Comparison(
        [Lane("lane", None)], shown=lambda event: event.payload, lane_of=lambda _: "lane", oldest=None
    )
    comparison.shows_from(FIRST)
    comparison.expect(made[:-1], FIRST + COUNT, "new")
    comparison.found([*as_delivered(made[:-1]), *foreign])
    comparison.foreign(Delivered(None, None, None, b"not ours", "lane", "line 9"))
    comparison.close()

    assert counts(comparison.end()) == {"older": 2, "extra": 2}


def test_beyond_its_bounds_it_still_counts_everything_and_says_that_it_is_coarse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparisons, "EARLY_MAX", 2)
    made = events_of("new")
    there = as_delivered(made)
    comparison = Comparison(
        [Lane("lane", None)], shown=lambda event: event.payload, lane_of=lambda _: "lane", pending_max=3
    )
    comparison.expect(made[:5], 105, "new")
    comparison.found([], there[6:])  # two are kept, two are only counted
    comparison.close()
    comparison.expect(made[5:], 110, "new")
    comparison.close()
    findings = comparison.end()

    assert findings.coarse
    assert findings.counts["missing"] == 8  # 100 to 105, and the two of which nobody remembers that they came
    assert findings.counts["reordered"] == 4
    assert sum(findings.counts[kind] for kind in DIFFERENCES) == 12
