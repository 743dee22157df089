"""What went wrong, as what to do next: the one place for errors of Redis, of the way there, and of our own scripts."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from oplogbridge.errors import BridgeError, Fenced, Misconfigured, Unavailable
from oplogbridge.redis_nodes.address import RedisAddress
from oplogbridge_sinks.redis.scripts import FORMAT_VERSION

# Answers that pass without a person. redis-py has a class for some; in a script an older server hides them in its text.
_PASSING = (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
_PASSING_WORD = re.compile(r"\b(LOADING|READONLY|MASTERDOWN|OOM|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|NOREPLICAS)\b")

_NO_RIGHT = re.compile(r"\bNOPERM\b|\bACL failure\b")  # inside a script it is an ordinary ERR

_DECIDE = "or decide with `oplog-bridge offsets set`"


def translate(error: Exception, destination: str, address: RedisAddress) -> BridgeError:
    told = address.without_secrets(str(error))
    text = f"{destination}: {told.splitlines()[0] if told else 'no answer in time'}"
    if isinstance(error, AskError):  # MOVED is one
        return Unavailable(f"{destination}: the cluster has its slot at {error.host}:{error.port}; it is opened there")
    if isinstance(error, (AuthenticationError, AuthorizationError)):  # to redis-py they are lost connections
        return Misconfigured(f"{text}; mend user and password in the url")
    if isinstance(error, NoPermissionError) or _NO_RIGHT.search(str(error)):
        return Misconfigured(f"{text}; grant what `oplog-bridge check --connect` lists")
    if isinstance(error, ClusterCrossSlotError):
        return Misconfigured(f"{text}; on Redis Cluster write one constant {{{{tag}}}} into the stream's template")
    if _has_cause(error, ssl.SSLCertVerificationError):
        return Misconfigured(f"{text}; name the certificate's authority with ?ssl_ca_certs= and the host as it does")
    if _has_cause(error, FileNotFoundError, PermissionError):
        return Misconfigured(f"{text}; mend the paths of certificates in the url")
    if _has_cause(error, ssl.SSLError) and not _has_cause(error, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return Misconfigured(
            f"{text}; mend the url: rediss:// is for a server that speaks TLS, ?ssl_certfile= and ?ssl_keyfile= name a "
            "certificate that it knows"
        )
    if address.tls and _has_cause(error, ConnectionResetError, BrokenPipeError):
        # TLS 1.3 refuses a client after the handshake; the reset that follows can overtake the reason.
        return Unavailable(f"{text}; it will be tried again; if that goes on, mend ?ssl_certfile= in the url")
    if isinstance(error, ResponseError) and not isinstance(error, _PASSING) and not _PASSING_WORD.search(str(error)):
        return Misconfigured(f"{text}; mend that, it is tried again slowly")
    if isinstance(error, OutOfMemoryError) or "maxmemory" in str(error):
        return Unavailable(f"{text}; it goes on in order when there is room: raise `maxmemory`, or set `max_entries`")
    return Unavailable(f"{text}; it will be tried again")


def refusal(verdict: bytes, found: Sequence[bytes], *, destination: str, position: str, owner: str) -> BridgeError:
    """What a script saw before it would have written (`scripts`)."""
    match verdict, [word.decode(errors="replace") for word in found]:
        case b"fenced", _:
            return Fenced(f"{destination}: a newer opener has it; leave it to them")
        case b"gone", _:
            return Unavailable(f"{destination}: its hash {position} is gone; open it again")
        case b"offset", [offset]:
            return Unavailable(f"{destination}: the batch does not begin at the position, {offset}; open it again")
        case b"version", [version]:
            return Misconfigured(
                f"{destination}: {position} has format {version}, this version knows {FORMAT_VERSION}; "
                "use the newer oplog-bridge"
            )
        case b"owner", [other]:
            return Misconfigured(
                f"{destination}: {position} belongs to {other}; give {owner} a stream of its own (and, where its name "
                f"has a {{tag}}, a tag of its own), {_DECIDE}"
            )
        case b"type", [stream, kind]:
            return Misconfigured(f"{destination}: {stream} is a {kind}; give this pipeline another stream")
        case b"unknown", [stream, top]:
            return Misconfigured(
                f"{destination}: {stream} has entries up to {top} and no record of a position; give this pipeline "
                f"another stream, {_DECIDE}"
            )
        case b"foreign", [stream, top, ours]:
            return Misconfigured(
                f"{destination}: somebody else writes into {stream}, its last id is {top}, ours was {ours}; stop them, "
                f"then give this pipeline another stream {_DECIDE}"
            )
        case b"back", [stream, top]:
            return Misconfigured(
                f"{destination}: {stream} holds ids up to {top} and takes only larger ones; replay into another "
                "stream, or delete this one first"
            )
    return Unavailable(f"{destination}: an answer that makes no sense; it will be tried again")


def _has_cause(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False
