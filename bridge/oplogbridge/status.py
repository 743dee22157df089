"""What a running bridge knows of itself, for the admin page, the metrics and the log. Plain numbers, updated per page.

Every status is written by one task and read by the admin server in the same loop, so nothing here is locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from oplogbridge.values import Event, Page

PipelineState = Literal["waiting", "opening", "running", "retrying", "stopped", "paused", "finished"]


# In an event, or beside its bytes: before these are there an attachment is pending; all else but `uploaded` means that
# they will never be.
AttachmentState = Literal["pending", "uploaded", "missing", "untrusted", "too_large", "expired"]


def _ignore(_: float) -> None: ...


def _ignore_all(_: str) -> Callable[[float], None]:
    return _ignore


@dataclass(slots=True)
class SourceStatus:
    name: str
    lease_held: bool = False
    epoch: int = 0
    polls: int = 0
    poll_failures: int = 0
    entries_read: int = 0
    entries_dropped: int = 0  # below the offset; the source should not have sent them
    pages_reordered: int = 0
    bytes_received: int = 0
    entries_late: int = 0  # found by a second look, below what was read already
    datamodel_hash: str | None = None  # of the last page that told one
    datamodel_changes: int = 0
    last_good_poll_at: float | None = None  # monotonic seconds
    last_empty_poll_at: float | None = None
    error: str | None = None
    observe_poll_seconds: Callable[[float], None] = _ignore
    replays: dict[str, PipelineStatus] = field(default_factory=dict)  # that run here, by name

    def polled(self, page: Page, seconds: float, now: float) -> bool:
        """Count a good poll; True when it ends a failure."""
        recovered, self.error = self.error is not None, None
        self.polls += 1
        self.entries_read += len(page.entries) + len(page.malformed)
        self.entries_dropped += page.dropped
        self.pages_reordered += page.reordered
        self.bytes_received += page.bytes_received
        if page.datamodel_hash is not None and page.datamodel_hash != self.datamodel_hash:
            self.datamodel_changes += self.datamodel_hash is not None
            self.datamodel_hash = page.datamodel_hash
        self.last_good_poll_at = now
        if not page.entries:
            self.last_empty_poll_at = now
        self.observe_poll_seconds(seconds)
        return recovered

    def failed(self, error: str) -> bool:
        """Count a failed poll; True when it is news."""
        news, self.error = self.error != error, error
        self.polls += 1
        self.poll_failures += 1
        return news


@dataclass(slots=True)
class PipelineStatus:
    name: str
    source: str
    sink: str
    state: PipelineState = "waiting"
    error: str | None = None  # why it retries or stopped; ends in the next step
    retry_at: float | None = None  # monotonic seconds
    offset: int | None = None
    position: int | None = None
    opened_offset: int | None = None  # where it began in this process
    log_trouble: str | None = None  # what the source did to its log; ends in the next step
    caught_up: bool = False
    entries_waiting: int = 0  # read and not yet durable
    last_event_time: str | None = None
    last_event_sequence: int | None = None
    progress_at: float | None = None  # monotonic seconds: the offset moved, or the source was seen empty
    events_delivered: int = 0
    bytes_delivered: int = 0
    entries_filtered: int = 0
    events_rejected: int = 0
    dead_letters: int = 0
    writes: int = 0
    retries: int = 0
    rewinds: int = 0  # the destination lost acknowledged writes
    attachments: dict[str, int] = field(default_factory=dict)  # told in events, or ended later, by state
    attachments_waiting: int = 0  # that are still to come
    observe_write_seconds: Callable[[float], None] = _ignore

    def delivered(self, events: Sequence[Event], payload_bytes: int) -> None:
        """Count events that are durable; those that were refused are not among them."""
        if events:
            self.events_delivered += len(events)
            self.bytes_delivered += payload_bytes
            self.writes += 1
            self.last_event_sequence, self.last_event_time = events[-1].sequence, events[-1].time


@dataclass(slots=True)
class BridgeStatus:
    """Everything, by name."""

    instance: str = ""
    started_at_unix: float = 0.0
    stopping: bool = False
    sources: dict[str, SourceStatus] = field(default_factory=dict)
    pipelines: dict[str, PipelineStatus] = field(default_factory=dict)
    # Where durations go, by name of a source or a pipeline; the metrics set these.
    poll_observer: Callable[[str], Callable[[float], None]] = _ignore_all
    write_observer: Callable[[str], Callable[[float], None]] = _ignore_all
    reloads: int = 0
    reload_failures: int = 0
    reload_error: str | None = None  # why the configuration that is there now is not the one that runs

    def show(self, sources: Iterable[str], pipelines: Iterable[tuple[str, str, str]]) -> None:
        """Keep the numbers of those that stay; pipelines by name, source and kind of sink."""
        self.sources = {name: self.sources.get(name) or self._source(name) for name in sources}
        shown: dict[str, PipelineStatus] = {}
        for name, source, sink in pipelines:
            shown[name] = self.pipelines.get(name) or self._pipeline(name, source, sink)
            shown[name].source, shown[name].sink = source, sink
        self.pipelines = shown

    def _source(self, name: str) -> SourceStatus:
        return SourceStatus(name, observe_poll_seconds=self.poll_observer(name))

    def _pipeline(self, name: str, source: str, sink: str) -> PipelineStatus:
        return PipelineStatus(name, source, sink, observe_write_seconds=self.write_observer(name))
