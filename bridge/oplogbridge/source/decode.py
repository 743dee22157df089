"""From the bytes of a page to a checked `Page`. Pure.

Three forms exist (docs/source.md). Of v4 two: where `sequence_ids=true` is honoured every entry has a string
`sequence_id` and the page has `has_more` and `next_request_start`; elsewhere the entry has an integer `sequence` and
only an empty page says that nothing follows. Of v1 one: a bare array of entries in another shape (`wire_v1.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from oplogbridge.errors import Misconfigured
from oplogbridge.source.one_by_one import ReadPage
from oplogbridge.source.order import ascending, malformed_ascending
from oplogbridge.source.rounded import RoundedRuns
from oplogbridge.source.wire_v4 import read_v4
from oplogbridge.values import Page, offset_of


class PageUnreadable(Exception):
    """The body is no page: cut off, or from a proxy. Asking again may help."""


@dataclass(slots=True)
class PageDecoder:
    """Decodes the pages of one source.

    `keep_raw` keeps every entry's bytes, for pipelines of format `raw`. `read` knows the form of the source's API:
    `wire_v4.read_v4` or `wire_v1.read_v1`.
    """

    keep_raw: bool = False
    rounded_allowed: bool = False
    read: Callable[[bytes, bool], ReadPage] = read_v4
    _rounded: RoundedRuns = field(default_factory=RoundedRuns)

    def decode(self, body: bytes, from_offset: int) -> Page:
        """The page that `body` is.

        Raises:
            PageUnreadable: It is not JSON, or JSON of another shape.
            Misconfigured: It is a page, but passing it would need a guess: an entry without a usable sequence, two
                different entries with one sequence, sequences that were rounded, bytes that are not UTF-8.
        """
        try:
            found = self.read(body, self.keep_raw)
            body.decode()  # msgspec.Raw does not check UTF-8 inside; once per page is cheap
        except UnicodeDecodeError as error:
            raise Misconfigured(
                f"the page at offset {from_offset} holds bytes that are not UTF-8 (byte {error.start}): "
                "have the entry mended at the source"
            ) from error
        except RecursionError as error:
            raise Misconfigured(
                f"the page at offset {from_offset} is nested too deeply to be read: have the entry mended at the source"
            ) from error
        except msgspec.DecodeError as error:
            raise PageUnreadable(f"the answer is not a page of the oplog ({error})") from error

        malformed = found.malformed
        entries, reordered = ascending(found.entries)
        dropped = 0
        if entries and entries[0].sequence < from_offset:
            kept = [entry for entry in entries if entry.sequence >= from_offset]
            dropped, entries = len(entries) - len(kept), kept
        if malformed:
            wanted = [one for one in malformed if one.sequence >= from_offset]
            dropped += len(malformed) - len(wanted)
            malformed = malformed_ascending(entries, wanted)
        if found.numbers and not self.rounded_allowed:
            self._rounded.refuse(entries, from_offset)
        last = max(
            entries[-1].sequence if entries else from_offset - 1,
            malformed[-1].sequence if malformed else from_offset - 1,
        )
        next_offset = last + 1
        if last < from_offset and found.has_more:
            next_offset = max(next_offset, _next_request_start(found.next_request_start, from_offset))
        return Page(
            from_offset=from_offset,
            next_offset=next_offset,
            entries=entries,
            malformed=malformed,
            # Without `has_more` a short page is not the end (vendor: "no more than the limit"); only an empty one is.
            more=found.has_more if found.has_more is not None else len(found.entries) + len(found.malformed) > 0,
            datamodel_hash=found.datamodel_hash,
            bytes_received=len(body),
            dropped=dropped,
            reordered=reordered,
        )


def _next_request_start(value: str | int | None, from_offset: int) -> int:
    """Where an empty page with more to come goes on. Absent or backwards: ask the same offset again."""
    text = str(from_offset if value is None else value)
    offset = offset_of(text)
    if offset is None:
        raise PageUnreadable(f"next_request_start is no offset: {text[:40]!r}")
    return max(offset, from_offset)
