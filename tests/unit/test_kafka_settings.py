"""Settings, names, rights and the translation of errors."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as kafka
from pydantic import ValidationError

from oplogbridge import BridgeError, Fenced, Misconfigured, SinkContext, Unavailable
from oplogbridge_sinks.kafka import KafkaSettings, plugin
from oplogbridge_sinks.kafka.failures import translate
from oplogbridge_sinks.kafka.topics import checkpoint_name, destination_of, safe, topic_template

SHOP = SinkContext("oplog-bridge.shop-to-kafka", "shop-to-kafka", "shop", "/oplogs/shop")


CLIENT = {
    "mechanism": "OAUTHBEARER",
    "token_url": "https://idp.example.com/token",
    "client_id": "bridge",
    "client_secret": "hunter2",
}


def settings(**changes: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap_servers": "localhost:9092"} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"bootstrap_servers": "localhost"},
        {"bootstrap_servers": "localhost:9092,"},
        {"bootstrap_servers": "localhost:0"},
        {"topic": "oplog.{kind}"},
        {"topic": "oplog.{"},
        {"partitions": 0},
        {"compression": "brotli"},
        {"timeout": 30},
        {"timeout": "30"},
        {"timeout": "60s"},  # not shorter than the transaction's
        {"transaction_timeout": "16m"},
        {"tls": {"key": "key.pem"}},
        {"tls": {"keystore": "x"}},
        {"sasl": {"mechanism": "GSSAPI", "username": "u", "password": "p"}},
        {"sasl": {"mechanism": "PLAIN", "username": "u"}},
        {"sasl": {"mechanism": "PLAIN", "username": "u", "password": "p", "scope": "s"}},
        {"sasl": {"mechanism": "OAUTHBEARER"}},
        {"sasl": {"mechanism": "OAUTHBEARER", "username": "u", "password": "p"}},
        {"sasl": CLIENT | {"client_id": None}},
        {"sasl": CLIENT | {"token_file": "token"}},
        {"sasl": CLIENT | {"token_url": "idp.example.com/token"}},
        {"sasl": CLIENT | {"token_url": "http://idp.example.com/token"}},
        {"sasl": CLIENT | {"token_url": "https://me:secret@idp.example.com/token"}},
        {"sasl": {"mechanism": "OAUTHBEARER", "token_file": "token", "scope": "s"}},
        {"acks": 1},
    ],
)
def test_a_mistake_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**changes)


def test_a_list_of_servers_is_fine() -> None:
    assert settings(bootstrap_servers=["a:9092", "[::1]:9093"]).servers == ["a:9092", "[::1]:9093"]


@pytest.mark.parametrize(
    ("tls", "sasl", "protocol"),
    [(None, False, "PLAINTEXT"), (True, False, "SSL"), (None, True, "SASL_PLAINTEXT"), ({}, True, "SASL_SSL")],
)
def test_the_protocol_follows_from_tls_and_sasl(tls: Any, sasl: bool, protocol: str) -> None:
    login = {"mechanism": "SCRAM-SHA-512", "username": "bridge", "password": "hunter2"}
    made = settings(tls=tls, sasl=login if sasl else None)

    assert made.connection()["security_protocol"] == protocol
    assert "hunter2" not in repr(made)
    assert "hunter2" not in made.model_dump_json()


@pytest.mark.parametrize(
    "changes",
    [{}, {"scope": "kafka"}, {"token_url": "http://[::1]:8080/"}, {"token_url": "http://idp/", "allow_http": True}],
)
def test_a_login_with_tokens_holds_its_secret(changes: dict[str, Any]) -> None:
    made = settings(sasl=CLIENT | changes)

    assert made.connection()["sasl_mechanism"] == "OAUTHBEARER"
    assert "hunter2" not in repr(made)
    assert "hunter2" not in made.model_dump_json()


def test_a_login_with_a_token_file_needs_nothing_else() -> None:
    assert settings(sasl={"mechanism": "OAUTHBEARER", "token_file": "/run/token"}).sasl is not None


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("user", "user"),
        ("order line", "order_20line"),
        ("a.b", "a_2Eb"),
        ("a_2Eb", "a_5F2Eb"),
        ("Ærø", "_C3_86r_C3_B8"),
        ("", ""),
    ],
)
def test_values_are_made_safe_and_stay_apart(value: str, name: str) -> None:
    assert safe(value) == name


def test_names() -> None:
    template = topic_template(settings(topic="{pipeline}.{source}.{type}"), SHOP)
    assert template.destination("order line", "update") == "shop-to-kafka.shop.order_20line"
    assert checkpoint_name(SHOP) == "oplog-bridge.shop-to-kafka.checkpoint"
    assert destination_of(settings(), SHOP) == "kafka:oplog.shop"
    assert destination_of(settings(topic="x.{source}.{type}"), SHOP) == "kafka:x.shop.{type}"


def test_rights_are_listed_one_a_line() -> None:
    def lines(**changes: Any) -> list[str]:
        return plugin.permissions(settings(**changes), SHOP)

    assert lines() == [
        "Write on transactional id oplog-bridge.shop-to-kafka",
        "Read, Write, DescribeConfigs on topic oplog-bridge.shop-to-kafka.checkpoint",
        "Read, Write, DescribeConfigs on topic oplog.shop",
    ]
    assert lines(topic="a_00.{source}.{type}", create=True)[2].endswith("Create on topics beginning with a_00.shop.")
    assert lines(topic="{type}")[2].endswith(" on topic *")


def test_the_commands_in_the_documentation_grant_just_these_rights() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
    granted = [
        f"{', '.join(re.findall('--operation ([A-Za-z]+)', line))} on {kind.replace('-', ' ')} {name}"
        for line in re.findall(r"^\$acls .+$", text, re.MULTILINE)
        for kind, name in re.findall(r"--(topic|transactional-id) (\S+)", line)
    ]
    assert granted == plugin.permissions(settings(), SHOP)


def _wrapped(cause: Exception) -> Exception:
    error = kafka.KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka.ProducerFenced(), Fenced),
        (kafka.InvalidProducerEpoch(), Fenced),
        (kafka.for_code(90)(), Fenced),
        (_wrapped(kafka.ProducerFenced()), Fenced),
        (_wrapped(kafka.InvalidTxnState()), Unavailable),
        (kafka.OutOfOrderSequenceNumber(), Unavailable),
        (kafka.KafkaConnectionError("down"), Unavailable),
        (kafka.NotEnoughReplicasError(), Unavailable),
        (TimeoutError(), Unavailable),
        (ConnectionResetError(), Unavailable),
        (kafka.SaslAuthenticationFailed("wrong"), Misconfigured),
        (kafka.UnsupportedSaslMechanismError(), Misconfigured),
        (kafka.TopicAuthorizationFailedError("oplog.shop"), Misconfigured),
        (kafka.TransactionalIdAuthorizationFailed("x"), Misconfigured),
        (kafka.InvalidReplicationFactorError(), Misconfigured),
        (kafka.UnknownTopicOrPartitionError(), Misconfigured),
        (kafka.InvalidTransactionTimeout(), Misconfigured),
        (ssl.SSLCertVerificationError("self-signed"), Misconfigured),
        (_wrapped(Misconfigured("as it was: said")), Misconfigured),
    ],
)
def test_an_error_says_what_to_do_next(error: Exception, kind: type[BridgeError]) -> None:
    translated = translate(error, "write 3 events", 30)
    assert type(translated) is kind
    assert "\n" not in str(translated)
