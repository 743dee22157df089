"""Photos, signatures and other attachments: their states, their bytes, and the URLs under which those are fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal
from uuid import uuid4

import msgspec

from oplogbridge.emulator.datamodel import Field
from oplogbridge.emulator.representation import UUID_SHAPE, InvalidValue

State = Literal["pending", "uploaded", "missing", "untrusted"]
STATES: tuple[State, ...] = ("pending", "uploaded", "missing", "untrusted")
VARIANTS = ("thumbnail", "fullscreen", "original")
FILENAME_SHAPE = re.compile(r"[a-z0-9_\-. ]+")
URL_SECONDS = 3600.0
_KEY = b"emulator"  # what signs its URLs; nothing here is secret
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"%PDF": "application/pdf"}


class Attachment(msgspec.Struct):
    id: str
    state: State
    filename: str = "attachment"
    content: bytes = b""

    @property
    def media_type(self) -> str:
        found = next((kind for magic, kind in _MAGIC.items() if self.content.startswith(magic)), None)
        if found is None and self.content.lstrip()[:4] in (b"<svg", b"<?xm"):
            return "image/svg+xml"
        return found or "application/octet-stream"


class Attachments:
    """By id. `root` and `unix` are set by the server that has them."""

    def __init__(self, kept: Iterable[Attachment]) -> None:
        self._by_id = {one.id: one for one in kept}
        self.root = ""  # scheme, host and port of the URLs
        self.unix: Callable[[], float] = lambda: 0.0
        self.url_seconds = URL_SECONDS

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, id_: object) -> Attachment | None:
        return self._by_id.get(id_) if isinstance(id_, str) else None

    def put(self, attachment: Attachment) -> None:
        self._by_id[attachment.id] = attachment

    def restore(self, id_: str, before: Attachment | None) -> None:
        """What was put under this id was taken back."""
        if before is None:
            self._by_id.pop(id_, None)
        else:
            self._by_id[id_] = before

    def made_of(self, name: str, given: Any) -> Attachment | None:
        """What a write means: bytes (base64 and a file's name), or an id, pending until its bytes come; None for an id
        that is known already. Raises InvalidValue."""
        if isinstance(given, str):
            given = {"id": given}
        if not isinstance(given, Mapping):
            raise InvalidValue(f"Invalid value for field '{name}'.")
        if "base64" in given:
            return Attachment(str(uuid4()), "uploaded", _filename(name, given), _content(name, given["base64"]))
        id_ = given.get("id")
        if not isinstance(id_, str) or UUID_SHAPE.fullmatch(id_) is None:
            raise InvalidValue(f"Invalid value for field '{name}'.")
        return None if id_ in self._by_id else Attachment(id_, "pending")

    def attachment(self, field: Field, id_: str) -> dict[str, Any]:
        """As v4 shows it now: URLs only once it is uploaded."""
        kept = self.find(id_)
        shown: dict[str, Any] = {"id": id_, "state": "missing" if kept is None else kept.state}
        if kept is not None and kept.state == "uploaded":
            variants = (*VARIANTS, "svg") if field.type == "signature" else VARIANTS
            shown |= {variant: self.root + self.path(id_, variant) for variant in variants}
        return shown

    def path(self, id_: str, variant: str) -> str:
        """Signed, and good for so long."""
        expires = int(self.unix() + self.url_seconds)
        return f"/media/{id_}/{variant}?expires={expires}&sha1={_signature(id_, variant, expires)}"

    def is_signed(self, id_: str, variant: str, expires: str, sha1: str) -> bool:
        if not (expires.isascii() and expires.isdigit()) or len(expires) > 18:
            return False
        right = hmac.compare_digest(sha1.encode(), _signature(id_, variant, int(expires)).encode())
        return right and self.unix() < int(expires)


def _signature(id_: str, variant: str, expires: int) -> str:
    return hmac.new(_KEY, f"{id_}/{variant}/{expires}".encode(), hashlib.sha1).hexdigest()


def _filename(name: str, given: Mapping[str, Any]) -> str:
    filename = given.get("filename", "attachment")
    if not isinstance(filename, str) or FILENAME_SHAPE.fullmatch(filename) is None:
        raise InvalidValue(f"Invalid filename {str(filename)[:100]!r} for field '{name}'.")
    return filename


def _content(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)  # no newlines, as documented
    except (TypeError, ValueError, binascii.Error):
        raise InvalidValue(f"Invalid base64 for field '{name}'.") from None
