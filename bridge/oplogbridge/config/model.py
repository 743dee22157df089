"""What the models of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from oplogbridge.config.checks import check_header_safe

Token = Annotated[SecretStr, Field(min_length=1), AfterValidator(check_header_safe)]
Word = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def written(default: str) -> Any:
    """A default as it would stand in the file: `validate_default` makes the value of it, the JSON Schema shows it."""
    return default
