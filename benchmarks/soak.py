"""Memory over a long catch-up: a bridge's RSS while millions of entries pass through it, and the slope of it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import linear_regression

from measure import Sample

SETTLED_PART = 0.2  # of the run: caches, allocator and sockets find their size
POINTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Growth:
    """Of the resident set. `slope` is what a million entries leave behind, by least squares over the settled part."""

    seconds: float
    entries: int
    mib_max: float
    slope_kib_per_million: float
    shown: list[tuple[int, float]]  # entries delivered, MiB


def growth_of(samples: list[Sample], begun: float, ended: float, entries: int) -> Growth:
    """`end` of a sample is in units of the destination, so progress is its part of the last one."""
    last = samples[-1].end
    running = [sample for sample in samples if begun <= sample.at <= ended]
    points = [(entries * sample.end / last, sample.rss_bytes / 1024) for sample in running]
    settled = [point for point in points if point[0] >= SETTLED_PART * entries]
    slope = linear_regression([done for done, _ in settled], [kib for _, kib in settled]).slope
    step = max(1, len(points) // POINTS_SHOWN)
    return Growth(
        seconds=ended - begun,
        entries=entries,
        mib_max=max(kib for _, kib in points) / 1024,
        slope_kib_per_million=slope * 1e6,
        shown=[(round(done), kib / 1024) for done, kib in [*points[::step], points[-1]]],
    )
