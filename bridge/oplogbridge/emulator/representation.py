"""A field's value as it is given, kept, and shown. Pure.

What is kept is the bare value: a choice's key, an attachment's id, text for dates. It is shown by the model of today,
whatever the model was when it was written, as the vendor documents it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from oplogbridge.emulator.datamodel import ATTACHMENT_TYPES, Field, Model

LOCATION_KEYS = ("latitude", "longitude", "altitude", "horizontal_accuracy", "vertical_accuracy", "timestamp")
UUID_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


class InvalidValue(Exception):
    """422 INVALID_VALUE; the message is the error's `detail`."""


class Shows(Protocol):
    """How attachments look now: by id, with the URLs of the server that was asked."""

    def attachment(self, field: Field, id_: str) -> dict[str, Any]: ...


def kept_value(field: Field, given: Any) -> Any:
    """Raises InvalidValue. `given` is JSON, or text where it came as a form. Attachments are not dealt with here."""
    if given is None or (given == "" and field.type != "text"):
        return None
    read = _READERS.get(field.type)
    return given if read is None else read(field, given)


def shown_object(
    model: Model | None,
    type_: str,
    id_: str,
    updated_at: str,
    state: Mapping[str, Any],
    shows: Shows,
    *,
    unknown_option: str,
) -> dict[str, Any]:
    """As v4 shows it in the oplog and, with `display` besides, in the objects API."""
    shown: dict[str, Any] = {"id": id_, "type": type_, "updated_at": updated_at}
    if model is None:
        return shown  # its model was removed: nobody knows its fields any more
    for name, field in model.fields.items():
        if name not in state:
            continue
        if field.type in ATTACHMENT_TYPES and state[name] is not None:
            shown[f"{name}_id"] = state[name]
        shown[name] = shown_value(field, state[name], shows, unknown_option)
    for name in model.belongs_to:
        if f"{name}_id" in state:
            shown[f"{name}_id"] = state[f"{name}_id"]
    return shown


def shown_value(field: Field, kept: Any, shows: Shows, unknown_option: str) -> Any:
    """v4. A value that the field, as it is defined today, cannot hold is null."""
    if kept is None:
        return None
    if field.type in ATTACHMENT_TYPES:
        return shows.attachment(field, kept) if isinstance(kept, str) else None
    if field.type.startswith("multiple-choice") and isinstance(kept, list):
        options = [_shown_option(field, key) for key in kept if not isinstance(key, dict | list)]
        return [one for one in options if one["display"] is not None or unknown_option == "key"]
    try:
        value = kept_value(field, kept)
    except InvalidValue:
        if unknown_option == "null" or field.options is None or isinstance(kept, dict | list):
            return None
        return {"key": kept, "display": None}
    return _shown_option(field, value) if field.options is not None else value


def shown_value_v1(field: Field, kept: Any) -> Any:
    """v1: bare keys, which for text are the option's position, and the ids of attachments."""
    if kept is None or field.type in ATTACHMENT_TYPES:
        return kept
    if isinstance(kept, list) and field.type.startswith("multiple-choice"):
        kept = [key for key in kept if field.option(key) is not None]  # one that is gone has no position
    try:
        value = kept_value(field, kept)
    except InvalidValue:
        return None
    if field.options is None or field.type == "boolean":
        return value
    index = {option.key: position for position, option in enumerate(field.options)}
    keys = [key if isinstance(key, int) else index[key] for key in (value if isinstance(value, list) else [value])]
    return keys if isinstance(value, list) else keys[0]


def display_of(model: Model, shown: Mapping[str, Any]) -> str | None:
    """`{name}` in the model's display, from the values shown."""
    if model.display is None:
        return None

    def value(found: re.Match[str]) -> str:
        part = shown.get(found[1])
        part = part.get("display") if isinstance(part, Mapping) else part
        return "" if part is None else str(part)

    return re.sub(r"\{(\w+)\}", value, model.display)


def _shown_option(field: Field, key: Any) -> dict[str, Any]:
    option = field.option(key)
    return {"key": key, "display": None if option is None else option.display}


def _invalid(field: Field, given: Any) -> InvalidValue:
    return InvalidValue(f"Invalid value {str(given)[:100]!r} for field '{field.name}'.")


def _text(field: Field, given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise _invalid(field, given)
    return str(given)


def _integer(field: Field, given: Any) -> int:
    if isinstance(given, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", given):
        given = int(given)
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not INTEGER_MIN <= given <= INTEGER_MAX:
        raise _invalid(field, given)
    return given


def _number(field: Field, given: Any) -> int | float:
    if isinstance(given, str):
        try:
            given = float(given)
        except ValueError:
            raise _invalid(field, given) from None
    if isinstance(given, bool) or not isinstance(given, int | float) or given != given or abs(given) == float("inf"):
        raise _invalid(field, given)
    return given


def _boolean(field: Field, given: Any) -> bool:
    given = given.get("key") if isinstance(given, Mapping) else given
    value = {"true": True, "false": False}.get(given, given) if isinstance(given, str) else given
    if not isinstance(value, bool):
        raise _invalid_option(field, given)
    return value


def _date(field: Field, given: Any) -> str:
    """Time and zone are stripped, as documented."""
    try:
        return datetime.fromisoformat(given).date().isoformat()
    except (TypeError, ValueError):
        raise _invalid(field, given) from None


def _datetime(field: Field, given: Any) -> str:
    """UTC, whole seconds."""
    try:
        moment = datetime.fromisoformat(given)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"  # strftime drops zeros
    except (TypeError, ValueError, OverflowError):
        raise _invalid(field, given) from None


def _choice(field: Field, given: Any) -> Any:
    given = given.get("key") if isinstance(given, Mapping) else given
    if field.type.endswith("-integer") and isinstance(given, str) and re.fullmatch(r"-?[0-9]{1,18}", given):
        given = int(given)
    if field.option(given) is None:
        raise _invalid_option(field, given)
    return given


def _choices(field: Field, given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise _invalid(field, given)
    return [_choice(field, one) for one in given]


def _location(field: Field, given: Any) -> dict[str, Any]:
    """An object, or the array of six that the vendor's own adapter writes."""
    if isinstance(given, list):
        given = dict(zip(LOCATION_KEYS, given, strict=False))
    if not isinstance(given, Mapping):
        raise _invalid(field, given)
    value = {key: given.get(key) for key in LOCATION_KEYS}
    for key, most in (("latitude", 90), ("longitude", 180)):
        degrees = value[key] = _number(field, value[key])
        if abs(degrees) > most:
            raise _invalid(field, given)
    for key in LOCATION_KEYS[2:5]:
        value[key] = None if value[key] is None else _number(field, value[key])
    if value["timestamp"] is not None:
        value["timestamp"] = _datetime(field, value["timestamp"])
    return value


def _invalid_option(field: Field, given: Any) -> InvalidValue:
    shown = f'"{given}"' if isinstance(given, str) else str(given)[:100]
    return InvalidValue(f"Invalid option {shown} for field '{field.name}'.")


_READERS = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "single-choice": _choice,
    "single-choice-integer": _choice,
    "multiple-choice": _choices,
    "multiple-choice-integer": _choices,
    "location": _location,
}
