"""What stands under `fields`: personal data that a pipeline does not deliver as it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

SECRET_BYTES_MIN = 16  # a shorter key is guessed, and every phone number then looked up


def check_field_path(path: str) -> str:
    names = path.split(".")
    if not all(names):
        raise ValueError("must be names with single dots between them, like address.street")
    if names[0] in ("id", "type"):
        raise ValueError(f"must not begin with {names[0]}: events are named and keyed by it")
    return path


def check_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < SECRET_BYTES_MIN:
        raise ValueError(
            f"must have at least {SECRET_BYTES_MIN} bytes: "
            "python3 -c 'import secrets; print(secrets.token_hex(32))' makes one"
        )
    return secret


FieldPath = Annotated[str, AfterValidator(check_field_path)]
FieldsSecret = Annotated[SecretStr, AfterValidator(check_secret)]


class FieldSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """What of one type's objects is not delivered as it is. Paths such as `email` or `address.street`."""

    drop: tuple[FieldPath, ...] = Field(default=(), description="fields that are left out")
    hash: tuple[FieldPath, ...] = Field(
        default=(), description="fields that become HMAC-SHA-256 of their value, in hex"
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        paths = [path.split(".") for path in (*self.drop, *self.hash)]
        if not paths:
            raise ValueError("must name fields under drop or hash")
        for index, path in enumerate(paths):
            for other in paths[:index] + paths[index + 1 :]:
                if path[: len(other)] == other:
                    same = "is named twice" if path == other else f'lies within "{".".join(other)}"'
                    raise ValueError(f'"{".".join(path)}" {same}')
        return self


def hashes(fields: Mapping[str, FieldSettings]) -> bool:
    """Whether anything is hashed, which needs a secret."""
    return any(rules.hash for rules in fields.values())
