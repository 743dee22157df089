"""From what aiokafka raises to what the pipeline should do next: the one place."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

from aiokafka import errors as kafka

from oplogbridge.errors import BridgeError, Fenced, Misconfigured, Unavailable
from oplogbridge_sinks.kafka.rights import Denied
from oplogbridge_sinks.kafka.tokens import NoToken

# Code 90, which brokers send to newer requests and other Kafka servers to all of them, is unknown to aiokafka: it
# would arrive as UnknownError inside "Unexpected error during batch delivery", with the code lost.
PRODUCER_FENCED_CODE = 90
_known: dict[int, Any] = kafka.kafka_errors  # typed for broker errors only
_known.setdefault(PRODUCER_FENCED_CODE, kafka.ProducerFenced)

_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch)

_CREDENTIALS = (
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
    kafka.SecurityDisabled,
)
_RIGHTS = (
    Denied,
    kafka.TopicAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
_SETTINGS = (
    kafka.UnknownTopicOrPartitionError,
    kafka.InvalidTopicError,
    kafka.InvalidPartitionsError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidConfigurationError,
    kafka.InvalidTransactionTimeout,
    kafka.PolicyViolationError,
    kafka.UnsupportedVersionError,
    kafka.IncompatibleBrokerVersion,
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: aiokafka's sender wraps what it dies of in "Unexpected error during batch delivery"."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _text(error: BaseException) -> str:
    """One line. Not `str` of a KafkaError, which repeats the class's name."""
    text = " ".join(" ".join(str(arg) for arg in error.args).split()) or getattr(error, "description", "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _missing_right(error: BaseException) -> str:
    """Without its name, the right that a write needs: all others are asked for as Denied."""
    if isinstance(error, Denied):
        return f"the right {error.args[0]} is missing"
    names = error.args[0] if error.args else ""
    named = ", ".join(sorted(names)) if isinstance(names, set) else str(names)
    if isinstance(error, kafka.TransactionalIdAuthorizationFailed):
        return f"the right Write on transactional id {named} is missing"
    if isinstance(error, kafka.TopicAuthorizationFailedError):
        return f"the right Write on topic {named} is missing"
    return f"a right is missing ({_text(error)})"


def translate(error: BaseException, doing: str, timeout_seconds: float) -> BridgeError:
    """What to raise instead of `error`, which ended `doing` ("open", "write 1000 events").

    Fenced only where the broker said so. Everything that is not known to need a person is Unavailable: a wrong guess
    there costs a retry, a wrong Misconfigured a stopped pipeline.
    """
    for cause in _chain(error):
        if isinstance(cause, BridgeError):
            return cause
        if isinstance(cause, NoToken):
            return cause.why
        if isinstance(cause, _FENCED):
            return Fenced("kafka: another process opened this pipeline's destination, or the transaction timed out")
        if isinstance(cause, _CREDENTIALS):
            return Misconfigured(f"kafka: the broker refused the login ({_text(cause)}): see `sasl`")
        if isinstance(cause, _RIGHTS):
            return Misconfigured(
                f"kafka: may not {doing}: {_missing_right(cause)}: `oplog-bridge check --connect` lists all"
            )
        if isinstance(cause, _SETTINGS):
            return Misconfigured(f"kafka: cannot {doing} ({_text(cause)}): see the pipeline's `sink` settings")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Misconfigured(f"kafka: the broker's certificate is not trusted ({_text(cause)}): see `tls.ca`")
        if isinstance(cause, ssl.SSLError):
            return Misconfigured(f"kafka: no TLS with the broker ({_text(cause)}): see `tls` and the port")
    if isinstance(error, TimeoutError):
        return Unavailable(f"kafka: could not {doing} within {timeout_seconds:g}s: is every broker of the topics up?")
    return Unavailable(f"kafka: could not {doing} ({_text(error)})")
