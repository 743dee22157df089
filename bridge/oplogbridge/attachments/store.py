"""Where attachments are kept: `ID` the bytes, and `ID.json` what they are, written behind them. Whoever finds the
second may read the first.

A folder needs nothing but itself. Anything else (s3://, gs://, az://) is obstore's, whose credentials come from the
environment as that platform's own tools take them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from oplogbridge.attachments.references import Told
from oplogbridge.errors import Misconfigured, Unavailable

LEFT_SECONDS = 3600.0
OBJECT_STORES = ("s3", "gs", "az", "memory")
_T = TypeVar("_T")


class Place(Protocol):
    """A place for files by name. Every method blocks; raises OSError or whatever its client raises."""

    @property
    def directory(self) -> Path | None:
        """Where a file to be put is best written; None: anywhere."""

    def read(self, name: str) -> bytes | None: ...

    def put(self, name: str, file: Path) -> None:
        """The file's bytes under this name, all at once. The file may be gone then."""


class AttachmentStore:
    def __init__(self, url: str) -> None:
        """A path, `file:///…`, or a URL that obstore knows."""
        self._url = store_url(url)
        self._place: Place | None = None

    def url_of(self, id_: str) -> str:
        """Final from the start: also before there is anything under it."""
        return f"{self._url}/{quote(id_)}"

    async def told(self, id_: str) -> Told | None:
        """What is kept of it. Raises Unavailable, Misconfigured."""
        text = await self._do(lambda place: place.read(f"{id_}.json"))
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=Told)
        except msgspec.MsgspecError as error:
            raise Misconfigured(
                f"{self.url_of(id_)}.json is not ours ({error}): give attachments another `store`"
            ) from error

    async def keep(self, id_: str, told: Told, content: Path | None = None) -> None:
        """Raises Unavailable, Misconfigured; both may have happened in part, which keeping it again mends."""

        def work(place: Place) -> None:
            if content is not None:
                place.put(id_, content)
            with tempfile.NamedTemporaryFile(dir=place.directory, prefix=".coming-", delete=False) as file:
                file.write(msgspec.json.encode(told) + b"\n")
            place.put(f"{id_}.json", Path(file.name))

        await self._do(work)

    async def directory(self) -> Path | None:
        """Where what is on its way here is best written."""
        return await self._do(lambda place: place.directory)

    async def _do(self, work: Callable[[Place], _T]) -> _T:
        def in_thread() -> _T:
            if self._place is None:
                self._place = _place(self._url)
            return work(self._place)

        try:
            return await asyncio.to_thread(in_thread)
        except (Misconfigured, Unavailable):
            raise
        except PermissionError as error:
            raise Misconfigured(f"attachments cannot be kept in {self._url} ({error}): mend its rights") from error
        except Exception as error:  # obstore's are many, and all of them are about what is over there
            raise Unavailable(
                f"the attachments' store {self._url} does not work: {type(error).__name__}: {str(error)[:200]}"
            ) from error


def store_url(text: str) -> str:
    """Without a slash at its end; a path becomes a file:// URL. Raises ValueError."""
    scheme = urlsplit(text).scheme
    if scheme in OBJECT_STORES:
        return text.rstrip("/")
    if scheme == "file":
        text = urlsplit(text).path
    elif scheme:
        raise ValueError(f"must be a path, file:///…, or {', '.join(f'{one}://…' for one in OBJECT_STORES)}")
    return Path(text).absolute().as_uri()


def _place(url: str) -> Place:
    return Folder(Path(urlsplit(url).path)) if url.startswith("file:") else Elsewhere(url)


class Folder:
    """Files that are whole from the moment in which they can be seen, and stay when the power goes."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory: Path | None = directory
        self._directory = directory
        for left in directory.glob(".coming-*"):  # by one who was killed; what is younger may be another pipeline's
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                    left.unlink()

    def read(self, name: str) -> bytes | None:
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, file: Path) -> None:
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.chmod(0o644)
        file.replace(self._directory / name)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Elsewhere:
    directory: Path | None = None

    def __init__(self, url: str) -> None:
        try:
            from obstore import store  # the extra `attachments`
        except ModuleNotFoundError as error:
            raise Misconfigured(
                f"attachments in {url} need an extra: pip install 'oplog-bridge[attachments]'"
            ) from error
        self._store: Any = store.from_url(url)

    def read(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None

    def put(self, name: str, file: Path) -> None:
        import obstore

        try:
            obstore.put(self._store, name, file)
        finally:
            with suppress(OSError):
                file.unlink()
