"""What went wrong, as what to do next: the one place for errors of NATS, of JetStream and of the way there."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence

import nats.errors
import nkeys

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge_sinks.nats.answers import Failed, Garbled

# What nats-py raises, and what it lets through: a seed that cannot be read, a certificate, an answer that is no JSON.
ERRORS = (nats.errors.Error, nkeys.NkeysError, OSError, ValueError)

_PERMISSION = re.compile(r"permissions violation", re.IGNORECASE)
_LOGIN = re.compile(r"authorization violation|authentication|user authentication|account .*expired", re.IGNORECASE)
_TLS_WANTED = re.compile(r"tls required|secure connection", re.IGNORECASE)

# JetStream's codes that ask for something else than their class (4xx: a person, 5xx: time) says.
_WRONG_SEQUENCE = {10071, 10164}
_BATCH_FELL_SHORT = {10176, 10199, 10200, 10201, 10202, 10203, 10205}
_FULL = {10047, 10077, 10023, 10054, 10035, 10167}
_NO_JETSTREAM = {10039, 10076}
_NO_STREAM = 10059


def translate(error: Exception, destination: str, secrets: Sequence[str]) -> BridgeError:
    said = told = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        told = told.replace(secret, "***")
    text = f"{destination}: {told}"
    if _PERMISSION.search(said):
        return Misconfigured(f"{text}; grant what `oplog-bridge check --connect` lists")
    if isinstance(error, nats.errors.AuthorizationError) or _LOGIN.search(said):
        return Misconfigured(f"{text}; mend the login: user and password in the url, `credentials`, `nkey` or `token`")
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return Misconfigured(f"{text}; mend the paths of `credentials`, `nkey` and `tls`")
    if _has_cause(error, ssl.SSLCertVerificationError):
        return Misconfigured(f"{text}; name the certificate's authority with `tls.ca` and the host as it does")
    if _has_cause(error, ssl.SSLError) and not _has_cause(error, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return Misconfigured(f"{text}; mend `tls`, or the url: tls:// is for a server that speaks TLS")
    if _TLS_WANTED.search(said):
        return Misconfigured(f"{text}; the server speaks TLS: write tls:// into the url")
    if isinstance(error, Garbled):
        return Unavailable(f"{text}; it will be tried again")
    if isinstance(error, (ValueError, nkeys.NkeysError, nats.errors.InvalidUserCredentialsError)):
        return Misconfigured(f"{text}; mend the file of `credentials` or `nkey`")
    if isinstance(error, TimeoutError) and not str(error):
        text = f"{destination}: no answer in time"
    return Unavailable(f"{text}; it will be tried again")


def refusal(error: Failed, destination: str) -> BridgeError:
    """An error that JetStream answered."""
    code, kind = error.err_code, error.code
    text = f"{destination}: {error.description}" + (f" ({code})" if code else "")
    if code in _WRONG_SEQUENCE:
        return Unavailable(f"{text}: the stream is not as we left it; open it again")
    if code in _BATCH_FELL_SHORT:
        return Unavailable(f"{text}; nothing of the batch is there, it will be tried again")
    if code in _FULL:
        return Unavailable(f"{text}; make room, or raise the limits of the stream or the account")
    if code in _NO_JETSTREAM:
        return Misconfigured(f"{text}; enable JetStream on the server and for this account")
    if code == _NO_STREAM:
        return Unavailable(f"{text}; the stream is gone: open it again")
    if kind == 503 or kind >= 500:
        return Unavailable(f"{text}; it will be tried again")
    return Misconfigured(f"{text}; mend that, it is tried again slowly")


def _has_cause(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False
