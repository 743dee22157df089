"""An operator, an account and a user of NATS in decentralised authentication: what `nsc` makes, for one test."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Any, NamedTuple

import nkeys

_PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


class Key(NamedTuple):
    seed: bytes
    pair: nkeys.KeyPair

    @property
    def public(self) -> str:
        return self.pair.public_key.decode()


class Decentralised(NamedTuple):
    config: dict[str, Any]  # of the server
    credentials: str  # of a user: a .creds file


def new_key(kind: str) -> Key:
    seed = nkeys.encode_seed(os.urandom(32), _PREFIXES[kind])
    return Key(seed, nkeys.from_seed(bytearray(seed)))


def decentralised() -> Decentralised:
    operator, account, user = new_key("operator"), new_key("account"), new_key("user")
    unlimited = dict.fromkeys(["subs", "data", "payload", "imports", "exports", "conn", "leaf"], -1)
    storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    in_account = {"type": "account", "version": 2, "limits": {**unlimited, **storage, "wildcards": True}}
    in_user = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    operator_jwt = _signed(operator, operator.public, "operator", {"type": "operator", "version": 2})
    account_jwt = _signed(operator, account.public, "account", in_account)
    user_jwt = _signed(account, user.public, "bridge", in_user)
    system = new_key("account")
    system_jwt = _signed(operator, system.public, "system", {"type": "account", "version": 2, "limits": unlimited})
    config = {
        "operator": operator_jwt,
        "system_account": system.public,
        "resolver": "MEMORY",
        "resolver_preload": {account.public: account_jwt, system.public: system_jwt},
    }
    credentials = (
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return Decentralised(config, credentials)


def _signed(issuer: Key, subject: str, name: str, claims: dict[str, Any]) -> str:
    about = {"jti": os.urandom(16).hex(), "iat": int(time.time()), "iss": issuer.public, "sub": subject}
    body = {**about, "name": name, "nats": claims}
    text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(body)}"
    return f"{text}.{_base64(issuer.pair.sign(text.encode()))}"


def _part(claims: dict[str, Any]) -> str:
    return _base64(json.dumps(claims).encode())


def _base64(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")
