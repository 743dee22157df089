"""The comparison itself: a window of what the source makes, and what the lanes of the destination hold of it. Pure.

    expect(events, below)    the source's next events: all that there are below that sequence
    found(in_order, astray)  what the lanes hold (`order.LaneOrder`)
    close()                  what was not found is missing so far; a later lane may still show it

Memory is bounded: by the window, and by `PENDING_MAX` and `EARLY_MAX` for what is missing so far and for what came too
early. Beyond that everything is still counted, but a late event cannot be told from a duplicate (`Findings.coarse`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b

from oplogbridge.identity import identity_of
from oplogbridge.sink import Delivered, Lane
from oplogbridge.values import Event
from oplogbridge.verify.findings import Finding, Findings, Kind

PENDING_MAX = 100_000  # about 40 MB
EARLY_MAX = 1_000  # with their payloads
KNOWN_MAX = 1 << 20  # sequences that are remembered, to tell a duplicate from what the source never had: 8 MB
_MODEL_HEADERS = ("ce_datamodelhash", "ce-datamodelhash")


class Wanted:
    """What is missing so far, as the destination is to show it."""

    __slots__ = ("attributes", "digest", "id", "key", "lane", "model", "size", "volatile")

    def __init__(
        self, event: Event, payload: bytes, lane: str, *, model: str | None, volatile: bool, binary: bool
    ) -> None:
        self.id = event.id
        self.key = event.key
        self.lane = lane
        self.model = model
        self.volatile = volatile
        self.digest, self.size = _digest(payload), len(payload)
        self.attributes = _attributes(event.headers) if binary else None


class Comparison:
    def __init__(
        self,
        lanes: Sequence[Lane],
        *,
        shown: Callable[[Event], bytes],
        lane_of: Callable[[Event], str],
        binary: bool = False,
        names_model: bool = True,
        dead_letters: Collection[int] = frozenset(),
        oldest: int | None = 0,
        pending_max: int = PENDING_MAX,
    ) -> None:
        """`binary`: CloudEvents' attributes stand in headers. `names_model`: events name their data model. `oldest`:
        what lies below it is older than the source's log, not extra; None until `shows_from` tells it."""
        self.findings = Findings()
        self._lanes: Mapping[str, Lane] = {lane.name: lane for lane in lanes}
        self._shown, self._lane_of = shown, lane_of
        self._binary, self._names_model = binary, names_model
        self._dead_letters = dead_letters
        self._oldest = oldest
        self._pending_max = pending_max
        self._below = 0  # all that is expected so far
        self._window: dict[int, Event] = {}
        self._model: str | None = None  # of the window
        self._volatile: Collection[int] = frozenset()  # in the window
        self._seen: set[int] = set()  # in the window
        self._missing: dict[int, Wanted] = {}
        self._missing_untold = 0  # beyond the bound
        self._crowded_at = pending_max // 4
        self._early: dict[int, list[Delivered]] = {}
        self._early_count = 0
        self._known = array("Q")
        self._forgotten = False  # of what was known

    def shows_from(self, sequence: int) -> None:
        """The first entry that the source still has."""
        if self._oldest is None:
            self._oldest = sequence

    @property
    def is_crowded(self) -> bool:
        """Whether so much is missing so far that it is time for `keep`: retention may have taken it."""
        return len(self._missing) >= self._crowded_at

    def keep(self, lanes: Sequence[Lane]) -> None:
        """What retention has left by now: it goes on while the lanes are read."""
        self._lanes = {lane.name: lane for lane in lanes}
        for sequence, wanted in list(self._missing.items()):
            if self._is_trimmed(sequence, wanted.lane):
                del self._missing[sequence]
                self.findings.trimmed += 1
        self._crowded_at = min(len(self._missing) + self._pending_max // 4, self._pending_max)
        if len(self._missing) == self._pending_max:
            self._crowded_at += 1  # it helps no more

    def expect(
        self, events: Sequence[Event], below: int, model: str | None, volatile: Collection[int] = frozenset()
    ) -> None:
        """`model`: the data model by which the source rendered them. `volatile`: the sequences of those that it renders
        anew each time, with fresh URLs of attachments."""
        self._below, self._model, self._volatile = below, model, volatile
        self._window.update([(event.sequence, event) for event in events])
        self._known.extend([event.sequence for event in events])
        self.findings.compared += len(events)
        if len(self._known) > 2 * KNOWN_MAX:
            del self._known[:KNOWN_MAX]
            self._forgotten = True

    def found(self, in_order: Sequence[Delivered], astray: Sequence[Delivered] = ()) -> None:
        for one in in_order:
            self._match(one)
        for one in astray:
            self._match(one, astray=True)

    def foreign(self, one: Delivered) -> None:
        """It stands at the destination and is no event of ours."""
        self._tell("extra", one, "no event of this pipeline")

    def close(self) -> None:
        """The window is over: what came early for it is looked at, and the rest is missing so far."""
        for sequence, event in self._window.items():
            if sequence in self._seen and not self._early:
                continue
            early = self._early.pop(sequence, [])
            self._early_count -= len(early)
            if sequence not in self._seen:
                if not early:
                    self._miss(event)
                    continue
                self._compare(early.pop(0), self._wanted(event), astray=True)
            for copy in early:
                self._tell("duplicate", copy)
        self._window.clear()
        self._seen.clear()

    def end(self) -> Findings:
        """After the last window: nothing more comes."""
        for early in self._early.values():
            for one in early:  # the source never came to it
                self._tell("extra", one, "the source has no such entry")
        self._early.clear()
        for sequence, wanted in self._missing.items():
            key = wanted.key.decode(errors="replace")
            self.findings.add("missing", Finding(str(sequence), wanted.id, key, wanted.lane, None))
        self.findings.counts["missing"] += self._missing_untold
        return self.findings

    def _match(self, one: Delivered, *, astray: bool = False) -> None:
        sequence = one.sequence
        assert sequence is not None, "what has none is `foreign`"
        event = self._window.get(sequence)
        if event is not None and sequence not in self._seen:
            self._seen.add(sequence)
            same = one.payload == self._shown(event) and one.key in (None, event.key)
            if same and not astray and not self._binary:
                self.findings.matched += 1
            else:
                self._compare(one, self._wanted(event), astray=astray)
        elif (missed := self._missing.pop(sequence, None)) is not None:
            self._compare(one, missed, astray=astray)
        elif sequence >= self._below:
            self._keep_early(sequence, one)
        elif self._is_known(sequence):
            self.findings.coarse |= self._missing_untold > 0
            self._tell("duplicate", one)
        elif self._oldest is None or sequence < self._oldest:
            self.findings.older += 1
        elif self._forgotten and sequence < self._known[0]:
            self.findings.coarse = True
            self._tell("duplicate", one, "or extra: too far back to tell")
        else:
            self._tell("extra", one, "the source has no such entry")

    def _keep_early(self, sequence: int, one: Delivered) -> None:
        if self._early_count < EARLY_MAX:
            self._early.setdefault(sequence, []).append(one)
            self._early_count += 1
        else:
            self.findings.coarse = True
            self._tell("reordered", one, "far too early")

    def _miss(self, event: Event) -> None:
        sequence, wanted = event.sequence, self._wanted(event)
        lane = self._lanes.get(wanted.lane)
        if sequence in self._dead_letters:
            self.findings.dead_lettered += 1
        elif self._is_trimmed(sequence, wanted.lane):
            self.findings.trimmed += 1
        elif lane is not None and lane.thinned:
            self.findings.thinned += 1
        elif len(self._missing) < self._pending_max:
            self._missing[sequence] = wanted
        else:
            self._missing_untold += 1

    def _is_trimmed(self, sequence: int, name: str) -> bool:
        lane = self._lanes.get(name)
        return lane is not None and lane.first_kept is not None and sequence < lane.first_kept

    def _wanted(self, event: Event) -> Wanted:
        return Wanted(
            event,
            self._shown(event),
            self._lane_of(event),
            model=self._model,
            volatile=event.sequence in self._volatile,
            binary=self._binary,
        )

    def _is_known(self, sequence: int) -> bool:
        index = bisect_left(self._known, sequence)
        return index < len(self._known) and self._known[index] == sequence

    def _compare(self, one: Delivered, wanted: Wanted, *, astray: bool) -> None:
        self.findings.matched += 1
        if astray and one.place is None:  # else it says itself that it came late
            self._tell("reordered", one)
        payload = one.payload or b""
        differs = []
        if one.key is not None and one.key != wanted.key:
            differs.append(f"its key is {one.key.decode(errors='replace')}, not {wanted.key.decode(errors='replace')}")
        same_payload = len(payload) == wanted.size and _digest(payload) == wanted.digest
        attributes = _attributes(one.headers) if wanted.attributes is not None else None
        if same_payload and attributes == wanted.attributes and not differs:
            return
        model = _model_of(one) if self._names_model else None
        if not differs and model is not None and wanted.model is not None and model != wanted.model:
            self._tell("re-rendered", one, f"by data model {model}, the source renders by {wanted.model} now")
            return
        if not differs and wanted.volatile:
            self._tell("re-rendered", one, "it refers to attachments, whose states and URLs the source renders anew")
            return
        if not same_payload:
            differs.append(f"its payload has {len(payload)} bytes, the source makes {wanted.size}")
        if attributes != wanted.attributes:
            differs.append("its attributes differ")
        self._tell("altered", one, "; ".join(differs))

    def _tell(self, kind: Kind, one: Delivered, detail: str = "") -> None:
        key = None if one.key is None else one.key.decode(errors="replace")
        sequence = None if one.sequence is None else str(one.sequence)
        self.findings.add(kind, Finding(sequence, one.id, key, one.lane, one.at, detail))


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()


def _attributes(headers: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    lower = [(name.lower(), value) for name, value in headers]
    return {name: value for name, value in lower if name.startswith(("ce_", "ce-"))}


def _model_of(one: Delivered) -> str | None:
    for name, value in one.headers:
        if name.lower() in _MODEL_HEADERS:
            return value.decode(errors="replace")
    return identity_of(one.payload or b"").datamodel_hash
