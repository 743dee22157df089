"""The last guard before a message is shown: what the configuration keeps secret must not stand in it. Pure.

Our own messages hold no values of secret keys. This is for what a plug-in's validator writes into its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from oplogbridge.config.problems import Hidden, Path, Problem

_SECRET_KEY = re.compile(r"pass|secret|token|credential|private|api_?key", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^/?#\s:@]*:([^/?#\s]*)@")
_URL_OPTION = re.compile(r"://[^\s]*[?&][a-z_]*password=([^&#\s]*)", re.IGNORECASE)
SECRET_CHARACTERS_MIN = 4  # shorter ones are in every other word
MODEL_DEPTH_MIN = 3  # `sources.shop.auth`, `pipelines.shop.sink`: what a validator of a whole mapping speaks about
NOT_SHOWN = "is not valid (the reason is not shown: it holds a secret)"


def secrets_of(data: Any, *, within_secret: bool = False) -> set[str]:
    """The texts under keys that sound secret, and the passwords in URLs."""
    found: set[str] = set()
    if isinstance(data, dict):
        for key, value in data.items():
            found |= secrets_of(value, within_secret=within_secret or _SECRET_KEY.search(key) is not None)
    elif isinstance(data, list):
        for value in data:
            found |= secrets_of(value, within_secret=within_secret)
    elif isinstance(data, (str, int, float)) and not isinstance(data, bool):
        text = str(data)
        passwords = _URL_PASSWORD.findall(text) + _URL_OPTION.findall(text)
        found.update(passwords, map(unquote, passwords))
        if within_secret:
            found.add(text)
    return found


def without_secrets(problems: Iterable[Problem], secrets: set[str], hidden: Hidden) -> list[Problem]:
    """The problems; a text that holds a secret is replaced by one that says only that.

    What came out of a `${…}` counts as a secret at its own place, and in what is said about the mapping around it: a
    name like `shop` may be a variable too, and must not silence every message.
    """
    pieces: dict[Path, set[str]] = {}
    for path, substituted in hidden.items():
        for length in range(min(len(path), MODEL_DEPTH_MIN), len(path) + 1):
            pieces.setdefault(path[:length], set()).update(substituted)
    return [
        Problem(problem.path, NOT_SHOWN)
        if any(
            secret in problem.text and len(secret) >= SECRET_CHARACTERS_MIN
            for secret in secrets | pieces.get(problem.path, set())
        )
        else problem
        for problem in problems
    ]
