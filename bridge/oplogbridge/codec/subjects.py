"""Filters over NATS-like subjects `{source}.{type}.{operation}`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oplogbridge.templates import matches, token


@dataclass(slots=True)
class Filter:
    """Which entries of a source a pipeline delivers. Empty means all; the three conditions are ANDed."""

    source: str
    types: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    subjects: Sequence[str] = ()
    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    KNOWN_MAX = 10_000  # pairs of type and operation; a data model has hundreds, so this only bounds abuse

    @property
    def passes_all(self) -> bool:
        return not (self.types or self.operations or self.subjects)

    def accepts(self, object_type: str, operation: str) -> bool:
        pair = (object_type, operation)
        known = self._known.get(pair)
        if known is None:
            if len(self._known) >= self.KNOWN_MAX:
                self._known.clear()
            known = self._known[pair] = self._decide(object_type, operation)
        return known

    def _decide(self, object_type: str, operation: str) -> bool:
        if (object_type, operation) == ("datamodel", "deploy"):  # asked for by itself (`datamodel_events`)
            return True
        if operation == "snapshot":  # an object that exists: whoever wants it created or changed wants it
            return self._decide(object_type, "create") or self._decide(object_type, "update")
        if self.types and object_type not in self.types:
            return False
        if self.operations and operation not in self.operations:
            return False
        subject = f"{token(self.source)}.{token(object_type)}.{token(operation)}"
        return not self.subjects or any(matches(pattern, subject) for pattern in self.subjects)
