"""The keys under `sink:` of `kind: file`, and the path that they make."""

from __future__ import annotations

from pydantic import BaseModel, field_validator

from oplogbridge.sink import SinkContext
from oplogbridge.templates import Template

PATH_FIELDS = frozenset({"source", "pipeline"})


class FileSettings(BaseModel, frozen=True, extra="forbid"):
    path: str  # a template over {source} and {pipeline}; its directory must exist

    @field_validator("path")
    @classmethod
    def _is_template(cls, path: str) -> str:
        Template(path, fields=PATH_FIELDS)
        if path == "" or path.endswith("/") or "\0" in path:
            raise ValueError("must name a file")
        return path


def path_of(settings: FileSettings, context: SinkContext) -> str:
    constants = {"source": context.source, "pipeline": context.pipeline}
    return Template(settings.path, fields=PATH_FIELDS, constants=constants, escape=_escape).fill({})


def _escape(value: str) -> str:
    """Of a name in a path: it must neither leave the directory nor end the string."""
    if value.strip(".") == "":
        return value.replace(".", "%2E")
    return "".join(f"%{ord(char):02X}" if char in "/\\%" or ord(char) < 32 else char for char in value)
