"""Several deployments behind one port, each with a log, a data model and credentials of its own."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.settings import EmulatorSettings
from oplogbridge.errors import ConfigError

_KEYS = {"username", "password", "tokens", "users", "data", "seed", "entries", "rate", "load", "model", "entry_bytes"}
_PATHS = {"load", "model", "data"}


class Deployments:
    """The first is the main one: it answers whatever is nobody's."""

    def __init__(self, all_: Sequence[Backend]) -> None:
        self._all = all_

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._all)

    def of(self, request: web.Request) -> Backend:
        """v4 has it in the path, v1 in the credentials, a file in its id, and the control API in `?deployment=`."""
        info, main = request.match_info, self._all[0]
        if len(self._all) == 1:
            return main
        wanted = info.get("deployment") or request.query.get("deployment")
        if wanted is not None:
            return next((one for one in self._all if one.settings.deployment == wanted), main)
        if request.path.startswith("/media/"):
            return next((one for one in self._all if one.objects.attachments.find(info["id"]) is not None), main)
        authorization = request.headers.get("Authorization", "")
        return next((one for one in self._all if lets_in(one.settings, authorization)), main)


def lets_in(settings: EmulatorSettings, authorization: str) -> bool:
    """Whether these credentials are good there; all are where there are none."""
    if settings.password is None and not settings.tokens and not settings.users:
        return True
    if not authorization.isascii():
        return False
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "basic":
            try:
                given = base64.b64decode(credentials, validate=True)
            except ValueError:  # binascii.Error is one
                return False
            logins = [f"{name}:{password}" for name, password in settings.users.items()]
            if settings.password is not None:
                logins.append(f"{settings.username or settings.deployment}:{settings.password}")
            return any(hmac.compare_digest(given, login.encode()) for login in logins)
        case "bearer":
            return credentials.startswith("O:") and _is_token(settings, credentials)
        case "token":
            return _is_token(settings, credentials)
    return False


def _is_token(settings: EmulatorSettings, text: str) -> bool:
    given = text.removeprefix("O:").encode()
    return any(hmac.compare_digest(given, token.removeprefix("O:").encode()) for token in settings.tokens)


def read_deployments(path: Path) -> list[EmulatorSettings]:
    """YAML, by the id of a deployment: {password:, username:, users: {name: password}, tokens: [], data:, model:, …}.

    Raises ConfigError: with every mistake.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(str(path), [f"cannot be read as YAML: {error}"]) from error
    if not isinstance(given, dict) or not given:
        raise ConfigError(str(path), ["must be a mapping of deployments: ID: {password: …}"])
    problems: list[str] = []
    found = [_read(str(id_), settings or {}, path.parent, problems) for id_, settings in given.items()]
    if problems:
        raise ConfigError(str(path), problems)
    return found


def _read(id_: str, given: Any, folder: Path, problems: list[str]) -> EmulatorSettings:
    if not isinstance(given, dict):
        problems.append(f"{id_}: must be a mapping")
        return EmulatorSettings(deployment=id_)
    problems += [f"{id_}.{key}: unknown key (allowed: {', '.join(sorted(_KEYS))})" for key in given.keys() - _KEYS]
    settings: dict[str, Any] = {key: value for key, value in given.items() if key in _KEYS}
    for key, shape in {"users": dict, "tokens": list, "entries": int, "seed": int}.items():
        if key in settings and not isinstance(settings[key], shape):
            problems.append(f"{id_}.{key}: must be {'a mapping' if shape is dict else 'a ' + shape.__name__}")
            del settings[key]
    settings |= {key: folder / str(settings[key]) for key in _PATHS & settings.keys() if settings[key] != "memory"}
    if "users" in settings:
        settings["users"] = {str(name): str(password) for name, password in settings["users"].items()}
    if "tokens" in settings:
        settings["tokens"] = tuple(map(str, settings["tokens"]))
    if settings.get("password") is not None:
        settings["password"] = str(settings["password"])
    return EmulatorSettings(deployment=id_, **settings)
