"""Checks of single values, for the models in `settings`. Pure. Messages say what is allowed, never what was written."""

from __future__ import annotations

import re

from pydantic import AfterValidator, SecretStr

from oplogbridge.templates import KEY_FIELDS, Template

NAME_CHARACTERS_MAX = 100
# `{name}.{pipeline}.dead-letters.checkpoint` must fit into the 249 characters of a Kafka topic, with room for the id
# of a replay.
BRIDGE_NAME_CHARACTERS_MAX = 63
# Owners of what we keep at destinations: a pipeline of such a name would share its transactional id with another's
# dead letters or replay, and they would fence each other for ever.
_RESERVED = re.compile(r".*\.dead-letters|.*\.replay\..*")

_FORBIDDEN_IN_HEADER = re.compile(r"[^\x20-\x7e]")


def named(pattern: str, characters_max: int, allowed: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(name: str) -> str:
        if len(name) > characters_max or not compiled.fullmatch(name):
            raise ValueError(f"must begin with a letter or digit and hold only {allowed} (at most {characters_max})")
        return name

    return AfterValidator(check)


def refuse_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take `true` for 1
        raise ValueError("must be a whole number")
    return value


def check_key_template(text: str) -> str:
    Template(text, fields=KEY_FIELDS)
    return text


def check_subject(pattern: str) -> str:
    """`pattern`, if it is one of `FilterSettings.subjects`. Raises ValueError otherwise."""
    tokens = pattern.split(".")
    if any(not token or re.search(r"\s", token) for token in tokens):
        raise ValueError("must be words with single dots between them, like shop.order.>")
    if ">" in tokens[:-1] or any(len(token) > 1 and re.search(r"[*>]", token) for token in tokens):
        raise ValueError("* stands for one whole word, > only at the end and for all that follow")
    return pattern


def check_header_safe(secret: SecretStr) -> SecretStr:
    if _FORBIDDEN_IN_HEADER.search(secret.get_secret_value()):
        raise ValueError("must be one line of printable ASCII")
    return secret


def refuse_reserved(name: str) -> str:
    if _RESERVED.fullmatch(name):
        raise ValueError("must not end in .dead-letters or contain .replay. (what we keep for those has such names)")
    return name
