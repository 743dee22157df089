"""What the configuration says of a pipeline's attachments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from oplogbridge.codec.payloads import Format


@dataclass(frozen=True, slots=True)
class AttachmentsSpec:
    pipeline: str  # whose list of what is still to come it is; also a replay's
    store: str
    types: frozenset[str]  # object types; empty means all
    fields: Mapping[str, Collection[str]] | None  # by object type; None: what looks like an attachment is one
    hidden: Mapping[str, Collection[str]] = field(default_factory=dict)  # members that the pipeline drops or hashes
    size_max: int = 25 * 2**20
    timeout_seconds: float = 10.0  # for all of a page together
    deadline_seconds: float = 7 * 86400.0  # for one that is still to come
    has_urls: bool = True  # API v4: entries show signed URLs; v1 is asked for each
    allow_http: bool = False
    format: Format = "cloudevents"
