"""What a point of the sink contract needs of a destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

Ability = Literal["position", "bare offset", "fencing", "expectation", "lock", "size limit"]
Test = TypeVar("Test", bound=Callable[..., Any])


def needs(*abilities: Ability) -> Callable[[Test], Test]:
    """A point of the contract that only holds where the destination has these."""

    def mark(test: Test) -> Test:
        setattr(test, "needs", frozenset(abilities))  # noqa: B010
        return test

    return mark
