"""Durations and sizes: one unit each, bounds, and no bare numbers."""

import pytest

from oplogbridge.durations import DurationBetween, SizeBetween, bytes_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("500ms", 0.5),
        ("15m", 900.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        ("10 s", 10.0),
        ("0", 0.0),
        (0, 0.0),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text, seconds):
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "wrong", [30, 1.5, "30", "s", "", "1 sec", "-1s", "1S", "1e3s", True, False, None, [1], "1m30s", "٣s"]
)
def test_what_is_no_duration_is_refused_without_being_shown(wrong):
    with pytest.raises(ValueError, match=r"^must be a duration with its unit: 500ms, 1s, 15m, 2h, 1d$"):
        seconds_of(wrong)


@pytest.mark.parametrize(
    ("text", "size"), [("1MiB", 2**20), ("64KiB", 65536), ("1.5GiB", 3 * 2**29), ("2kB", 2000), ("7B", 7), (0, 0)]
)
def test_a_size_is_a_number_and_its_unit(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("wrong", [1024, "1024", "1mib", "1 M", True, None, "-1B"])
def test_what_is_no_size_is_refused_without_being_shown(wrong):
    with pytest.raises(ValueError, match=r"^must be a size with its unit: 512B, 64KiB, 1MiB, 1GiB$"):
        bytes_of(wrong)


def test_bounds_are_named_as_they_are_written():
    with pytest.raises(ValueError, match="must be 1s to 1h"):
        DurationBetween("1s", "1h")._within("999ms")
    with pytest.raises(ValueError, match="must be 1KiB to 1MiB"):
        SizeBetween("1KiB", "1MiB")._within("2MiB")
