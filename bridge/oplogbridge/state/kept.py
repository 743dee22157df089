"""What every store keeps besides offsets, as text, and the answers that all of them give in the same words."""

from __future__ import annotations

import secrets

import msgspec

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.state import FORMAT_VERSION, AuditRecord, Holder

AUDIT_RECORDS_MAX = 10_000


def new_nonce() -> str:
    """The random half of a token. A store mints it before it asks, so that it knows its own unanswered request."""
    return secrets.token_hex(16)


def token(epoch: int, nonce: str) -> str:
    return f"{epoch}-{nonce}"


def nonce_of(token: str) -> str:
    return token.partition("-")[2]


def holder_to_text(holder: Holder) -> str:
    return msgspec.json.encode(holder).decode()


def holder_from_text(text: str) -> Holder:
    """Raises Misconfigured for what is not ours. Fields that a newer version added are ignored."""
    try:
        return msgspec.json.decode(text, type=Holder)
    except msgspec.MsgspecError as error:
        raise Misconfigured(
            f"the state store holds a lease that cannot be read ({error}): another program writes there; "
            "give oplog-bridge a state store, or a `name`, of its own"
        ) from error


def record_to_text(record: AuditRecord) -> str:
    return msgspec.json.encode(record).decode()


def record_from_text(text: str) -> AuditRecord:
    """Raises Misconfigured for what is not ours."""
    try:
        return msgspec.json.decode(text, type=AuditRecord)
    except msgspec.MsgspecError as error:
        raise Misconfigured(f"the state store holds an audit record that cannot be read ({error})") from error


def check_format(version: int, place: str) -> None:
    """Raises Misconfigured when a newer version of oplog-bridge wrote at `place`."""
    if version > FORMAT_VERSION:
        raise Misconfigured(
            f"{place} was written in format {version} by a newer oplog-bridge, this version knows format "
            f"{FORMAT_VERSION}: upgrade oplog-bridge"
        )


def fenced(source: str) -> Fenced:
    """The token is not the lease's: it ran out, somebody newer took it, or the store lost it."""
    return Fenced(f"the lease of source {source} is not ours any more: queueing for it again")


def replaced_meanwhile(pipeline: str) -> Unavailable:
    """A save found another value than the one it was to replace."""
    return Unavailable(
        f"the stored offset of pipeline {pipeline} is not the one that was read before: reading it again"
    )
