"""The keys under `attachments` of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from oplogbridge.attachments.store import store_url
from oplogbridge.config.model import Model, Word, written
from oplogbridge.durations import DurationBetween, SizeBetween


class AttachmentSettings(Model):
    """Photos, signatures and files are fetched into a store; events carry a reference."""

    store: Annotated[str, Field(min_length=1), AfterValidator(store_url)] = Field(
        default=written("attachments"), description="a folder, or s3://…, gs://…, az://… (extra: attachments)"
    )
    types: Annotated[tuple[Word, ...], Field(min_length=1)] | None = Field(
        default=None, description="object types whose attachments are fetched; all, unless given"
    )
    fields: Mapping[Word, tuple[Word, ...]] | None = Field(
        default=None, description="the fields that hold attachments, by object type; needed with api: v1"
    )
    size_max: Annotated[int, SizeBetween("1KiB", "10GiB")] = Field(
        default=written("25MiB"), description="a larger one is not fetched, and the event says so"
    )
    timeout: Annotated[float, DurationBetween("100ms", "10m")] = Field(
        default=written("10s"), description="how long a page waits for its attachments at most"
    )
    deadline: Annotated[float, DurationBetween("1m", "365d")] = Field(
        default=written("7d"), description="how long one that is still to come is looked for"
    )
