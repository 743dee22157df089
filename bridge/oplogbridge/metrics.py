"""Prometheus metrics, read off the status at scrape time: the hot path pays nothing but two observations a page.

Names begin with `oplog_bridge_`, but for the conventional `process_*` (Linux only). docs/operations.md lists them; a
test holds the list to this table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oplogbridge.source.start import unix_seconds
from oplogbridge.status import AttachmentState, BridgeStatus, PipelineState, PipelineStatus

PIPELINE_STATES: tuple[PipelineState, ...] = get_args(PipelineState)
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


_SOURCE_COUNTERS = {
    "polls": "requests sent to the source",
    "poll_failures": "polls without a usable answer",
    "entries_read": "entries in the pages received",
    "entries_dropped": "entries below the offset asked for, which the source should not have sent",
    "pages_reordered": "pages that were not in ascending order",
    "entries_late": "entries found by a second look, below what was read already",
    "datamodel_changes": "times that the source showed another data model than before",
    "bytes_received": "bytes of the pages, unpacked",
}
_PIPELINE_COUNTERS = {
    "events_delivered": "events durable at the destination",
    "bytes_delivered": "payload bytes durable at the destination",
    "entries_filtered": "entries that the filter held back",
    "events_rejected": "events that the destination refused for good, and malformed entries",
    "dead_letters": "events kept as dead letters",
    "writes": "atomic writes",
    "retries": "times that the pipeline closed its sink and waited",
    "rewinds": "times that the destination had lost acknowledged writes",
}


class Metrics:
    """The registry of one bridge."""

    def __init__(self, status: BridgeStatus, *, unix: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(status, unix))
        ProcessCollector(registry=self._registry)
        self._poll = Histogram(
            "oplog_bridge_poll_seconds", "one poll", ["source"], buckets=SECONDS_BUCKETS, registry=self._registry
        )
        self._write = Histogram(
            "oplog_bridge_write_seconds",
            "one atomic write",
            ["pipeline"],
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        status.poll_observer = lambda source: self._poll.labels(source).observe
        status.write_observer = lambda pipeline: self._write.labels(pipeline).observe
        for source in status.sources.values():
            source.observe_poll_seconds = status.poll_observer(source.name)
        for pipeline in status.pipelines.values():
            pipeline.observe_write_seconds = status.write_observer(pipeline.name)

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self._registry)


class _StatusCollector(Collector):
    def __init__(self, status: BridgeStatus, unix: Callable[[], float]) -> None:
        self._status = status
        self._unix = unix

    def collect(self) -> Iterator[Metric]:
        sources, pipelines = self._status.sources.values(), self._status.pipelines.values()
        for name, text in _SOURCE_COUNTERS.items():
            counter = CounterMetricFamily(f"oplog_bridge_{name}", text, labels=["source"])
            for source in sources:
                counter.add_metric([source.name], getattr(source, name))
            yield counter
        held = GaugeMetricFamily("oplog_bridge_lease_held", "1 while this process holds the lease", labels=["source"])
        for source in sources:
            held.add_metric([source.name], source.lease_held)
        yield held
        labels = ["pipeline", "source", "sink"]
        for name, text in _PIPELINE_COUNTERS.items():
            counter = CounterMetricFamily(f"oplog_bridge_{name}", text, labels=labels)
            for pipeline in pipelines:
                counter.add_metric(_labels(pipeline), getattr(pipeline, name))
            yield counter
        yield from self._gauges(labels)
        reloads = CounterMetricFamily("oplog_bridge_config_reloads", "SIGHUPs, by what came of it", labels=["result"])
        reloads.add_metric(["taken"], self._status.reloads)
        reloads.add_metric(["refused"], self._status.reload_failures)
        yield reloads
        yield GaugeMetricFamily("oplog_bridge_tasks", "asyncio tasks of this process", len(asyncio.all_tasks()))

    def _gauges(self, labels: list[str]) -> Iterator[Metric]:
        offset = GaugeMetricFamily("oplog_bridge_offset", "the next sequence to read", labels=labels)
        waiting = GaugeMetricFamily("oplog_bridge_lag_entries", "entries read and not yet durable", labels=labels)
        lag = GaugeMetricFamily(
            "oplog_bridge_lag_seconds", "age of the last delivered entry; 0 when caught up", labels=labels
        )
        state = GaugeMetricFamily("oplog_bridge_pipeline_state", "1 for the present state", labels=[*labels, "state"])
        for pipeline in self._status.pipelines.values():
            own = _labels(pipeline)
            if pipeline.offset is not None:
                offset.add_metric(own, pipeline.offset)  # a double here, as in all of Prometheus: a trend, not a value
            waiting.add_metric(own, pipeline.entries_waiting)
            behind = lag_seconds(pipeline, self._unix())
            if behind is not None:
                lag.add_metric(own, behind)
            for name in PIPELINE_STATES:
                state.add_metric([*own, name], name == pipeline.state)
        yield from (offset, waiting, lag, state)
        trouble = GaugeMetricFamily(
            "oplog_bridge_log_trouble", "1 while the source's log was put back or cut beneath the offset", labels=labels
        )
        for pipeline in self._status.pipelines.values():
            trouble.add_metric(_labels(pipeline), pipeline.log_trouble is not None)
        yield trouble
        told = CounterMetricFamily(
            "oplog_bridge_attachments", "attachments by what became of them", labels=[*labels, "state"]
        )
        coming = GaugeMetricFamily("oplog_bridge_attachments_waiting", "attachments still to come", labels=labels)
        for pipeline in self._status.pipelines.values():
            for became in get_args(AttachmentState):
                told.add_metric([*_labels(pipeline), became], pipeline.attachments.get(became, 0))
            coming.add_metric(_labels(pipeline), pipeline.attachments_waiting)
        yield from (told, coming)


def lag_seconds(pipeline: PipelineStatus, unix_now: float) -> float | None:
    """How far the pipeline is behind the source, in seconds of the source's clock; None when nothing is known yet."""
    if pipeline.caught_up:
        return 0.0
    written = unix_seconds(pipeline.last_event_time)
    return None if written is None else max(0.0, unix_now - written)


def _labels(pipeline: PipelineStatus) -> list[str]:
    return [pipeline.name, pipeline.source, pipeline.sink]
