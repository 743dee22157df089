"""What tests do where a server's program is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services import MissingServer

IN_CI = bool(os.environ.get("CI"))


@contextmanager
def needed() -> Iterator[None]:
    """A program that is missing is an error in CI; elsewhere it is a reason to skip, and says how to get it."""
    try:
        yield
    except MissingServer as missing:
        if IN_CI:
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
