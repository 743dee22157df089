"""The last guard before a message is shown: what the configuration keeps secret must not stand in it. Pure.

Our own messages hold no values of secret keys. This is for what a plug-in's validator writes into its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from oplogbridge.config.problems import Problem

_SECRET_KEY = re.compile(r"pass|secret|token|credential|sasl|private|api_?key|auth", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^/?#\s:@]*:([^/?#\s]*)@")
SECRET_CHARACTERS_MIN = 4  # shorter ones are in every other word


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
        passwords = _URL_PASSWORD.findall(text)
        found.update(passwords, map(unquote, passwords))
        if within_secret:
            found.add(text)
    return {text for text in found if len(text) >= SECRET_CHARACTERS_MIN}


def without_secrets(problems: Iterable[Problem], secrets: Iterable[str]) -> list[Problem]:
    """The problems; a text that holds a secret is replaced by one that says only that."""
    longest_first = sorted(secrets, key=len, reverse=True)
    return [
        Problem(problem.path, "is not valid (the reason is not shown: it holds a secret)")
        if any(secret in problem.text for secret in longest_first)
        else problem
        for problem in problems
    ]
