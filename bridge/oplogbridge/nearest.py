"""What was probably meant by a misspelled word. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

ALLOWED_SHOWN_MAX = 20
WORD_CHARACTERS_MAX = 100  # difflib is quadratic


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant, or None."""
    if len(word) > WORD_CHARACTERS_MAX:
        return None
    found = difflib.get_close_matches(word.lower(), by_lower := {choice.lower(): choice for choice in choices}, n=1)
    return by_lower[found[0]] if found else None


def hint(word: str, choices: Collection[str]) -> str:
    """` (did you mean "x"? allowed: …)`, or what of it helps."""
    meant = nearest(word, choices)
    parts = [f'did you mean "{meant}"?'] if meant is not None else []
    if choices:
        more = ", …" if len(choices) > ALLOWED_SHOWN_MAX else ""
        parts.append(f"allowed: {', '.join(list(choices)[:ALLOWED_SHOWN_MAX])}{more}")
    return f" ({' '.join(parts)})" if parts else ""
