"""A state store in Redis (or Valkey): for instances on several machines.

All keys share one hash tag, so they live in one slot: `{name}:lease:SOURCE`, `{name}:epoch:SOURCE`,
`{name}:offset:PIPELINE`, `{name}:notes:KIND`, `{name}:audit`, `{name}:format`. Redis's own clock ends a lease (PX); a
clock of ours is not asked. Redis may forget what it acknowledged (everysec persistence, a fail-over): the pipeline
allows for that, see docs/delivery.md.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.redis_nodes.address import RedisAddress
from oplogbridge.redis_nodes.cautions import NOT_ALLOWED, cautions_of
from oplogbridge.state import FORMAT_VERSION, AuditRecord, Holder, LeaseToken, Stored, kept
from oplogbridge.state import redis_scripts as scripts
from oplogbridge.state.redis_link import RedisLink

_DEADLINE_SECONDS = 3.0  # of one call, connecting included; a lease of 10 s survives a call that runs into it
_UNANSWERED_MAX = 8


def permissions(name: str, address: RedisAddress | None = None) -> list[str]:
    """The rights that an ACL user needs, as rules for `ACL SETUSER`; behind sentinels a second rule is theirs."""
    commands = "+evalsha +eval +get +set +incr +pexpire +del +lpush +ltrim +lrange +hget +hset +hdel +hgetall"
    sentinels = address is not None and address.service is not None
    commands += " +select" if address is None or address.database else ""
    commands += " +role" if sentinels else ""
    commands += " +asking" if address is not None and address.cluster else ""
    return [f"~{{{name}}}:* {commands}", *(["+sentinel|get-master-addr-by-name"] if sentinels else [])]


class RedisStateStore:
    """Implements `StateStore`. `name` prefixes every key. Use it from one event loop."""

    def __init__(self, address: RedisAddress, *, name: str, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        if not name or "{" in name or "}" in name:
            raise Misconfigured("`name:` may not be empty or hold braces: it is the hash tag of all our keys in Redis")
        self._address = address
        self._deadline_seconds = deadline_seconds
        self._prefix = f"{{{name}}}:"
        self._link: RedisLink | None = None
        # Source to the nonces of its `acquire`s whose answer never came. A lease with one of them was taken for a
        # caller that never got the token: the next `acquire` takes it at once, instead of waiting for its TTL to end.
        self._unanswered: dict[str, deque[str]] = {}

    def __repr__(self) -> str:
        return f"RedisStateStore({self._address}, {self._prefix})"

    async def open(self) -> None:
        link = RedisLink(self._address, deadline_seconds=self._deadline_seconds)
        try:
            version = await link.run(scripts.OPEN, [self._key("format")], [str(FORMAT_VERSION)])
            self._check_format(version)
        except BaseException:
            await link.close()
            raise
        await self.close()
        self._link = link

    async def cautions(self) -> list[str]:
        """As `oplogbridge.sink.Cautious`."""
        try:
            return cautions_of((await self._opened().call("INFO")).decode(), wait_replicas=None)
        except Misconfigured:
            return [NOT_ALLOWED]

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def acquire(self, source: str, holder: Holder, ttl_seconds: float) -> str | None:
        keys = [self._key("lease", source), self._key("epoch", source), self._key("format")]
        nonce = kept.new_nonce()
        unanswered = self._unanswered.setdefault(source, deque(maxlen=_UNANSWERED_MAX))
        who = [json.dumps(holder.instance), "1" if holder.reclaims else "0", kept.holder_to_text(holder)]
        values = [nonce, " ".join(unanswered), *who, _ms(ttl_seconds), str(FORMAT_VERSION)]
        try:
            outcome, text = await self._opened().run(scripts.ACQUIRE, keys, values)
        except BaseException:  # cancelled too: it may have happened, or may yet
            unanswered.append(nonce)
            raise
        if outcome == b"newer":
            self._check_format(text)
        return self._text(text) if outcome == b"taken" else None

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        await self._fenced_run(scripts.RENEW, source, token, [_ms(ttl_seconds)])

    async def release(self, source: str, token: str) -> None:
        await self._opened().run(scripts.RELEASE, [self._key("lease", source)], [token])

    async def holder(self, source: str) -> Holder | None:
        lease = await self._opened().call("GET", self._key("lease", source))
        return None if lease is None else kept.holder_from_text(self._text(lease).split("\n", 2)[-1])

    async def load(self, source: str, token: str, pipeline: str) -> Stored | None:
        _, text = await self._fenced_run(scripts.LOAD, source, token, [], self._key("offset", pipeline))
        return Stored.from_text(self._text(text)) if text else None

    async def save(self, source: str, token: str, pipeline: str, stored: Stored, *, replacing: Stored | None) -> None:
        expected = "" if replacing is None else replacing.to_text()
        values = [expected, stored.to_text()]
        outcome, _ = await self._fenced_run(scripts.SAVE, source, token, values, self._key("offset", pipeline))
        if outcome == b"replaced":
            raise kept.replaced_meanwhile(pipeline)

    async def peek(self, pipeline: str) -> Stored | None:
        text = await self._opened().call("GET", self._key("offset", pipeline))
        return None if text is None else Stored.from_text(self._text(text))

    async def notes(self, kind: str) -> dict[str, str]:
        found = await self._opened().call("HGETALL", self._key("notes", kind))
        texts = [self._text(text) for text in found]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def note(
        self,
        kind: str,
        changes: Mapping[str, str | None],
        *,
        expected: Mapping[str, str | None] | None = None,
        under: LeaseToken | None = None,
    ) -> bool:
        expected = expected or {}
        values = ["" if under is None else under.token, str(len(expected))]
        for key, text in (*expected.items(), *changes.items()):
            values += key, "0" if text is None else "1", text or ""
        source = "" if under is None else under.source
        keys = [self._key("lease", source), self._key("notes", kind)]
        outcome, _ = await self._opened().run(scripts.NOTE, keys, values)
        if outcome == b"fenced":
            raise kept.fenced(source)
        return bool(outcome == b"noted")

    async def record(self, record: AuditRecord) -> None:
        values = [kept.record_to_text(record), str(kept.AUDIT_RECORDS_MAX)]
        await self._opened().run(scripts.RECORD, [self._key("audit")], values)

    async def audit(self, records_max: int) -> list[AuditRecord]:
        if records_max <= 0:
            return []
        texts = await self._opened().call("LRANGE", self._key("audit"), "0", str(records_max - 1))
        return [kept.record_from_text(self._text(text)) for text in texts]

    async def _fenced_run(
        self, script: scripts.Script, source: str, token: str, values: list[str], *more_keys: str
    ) -> tuple[bytes, bytes]:
        outcome, text = await self._opened().run(script, [self._key("lease", source), *more_keys], [token, *values])
        if outcome == b"fenced":
            raise kept.fenced(source)
        return outcome, text

    def _opened(self) -> RedisLink:
        if self._link is None:
            raise Unavailable("the state store is not open")
        return self._link

    def _key(self, *words: str) -> str:
        return self._prefix + ":".join(words)

    def _check_format(self, version: Any) -> None:
        text = self._text(version)
        if not text.isdigit():
            raise self._not_ours(f"{self._key('format')} is {text[:20]!r}")
        kept.check_format(int(text), str(self._address))

    def _text(self, value: Any) -> str:
        try:
            return bytes(value).decode()
        except (TypeError, ValueError) as error:
            raise self._not_ours("it is not text") from error

    def _not_ours(self, what: str) -> Misconfigured:
        return Misconfigured(f"{self._address} holds what is not ours ({what}): change `name:` or use another database")


def _ms(seconds: float) -> str:
    return str(max(1, math.ceil(seconds * 1000)))
