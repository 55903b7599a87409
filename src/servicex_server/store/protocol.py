"""The port to wherever result objects are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store knows of an object.

    Attributes:
        etag: opaque version tag without quotes; equal tags mean equal bytes.
        modified: UTC, timezone-aware, whole seconds.
    """

    key: str
    size_bytes: int
    etag: str
    modified: datetime


class Store(Protocol):
    """Keeps immutable objects under slash-separated keys such as `<request id>/<file id>-1`.

    A put is atomic: readers see the whole object or none. Putting a key again replaces it.
    The blocking methods are for worker processes; the async ones for the server.
    """

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Moves (or uploads) the finished file at `path` to `key`, durably, and returns what is stored.

        Raises:
            ResourceExhausted: the disk is full or a quota is reached; nothing was stored.
        """
        ...

    def scratch_folder(self) -> Path:
        """A local folder in which workers write results before they put them."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """What is stored under `key`, or None."""
        ...

    def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes `[start, stop)` in pieces of bounded size.

        Raises:
            NotFound: no such object (raised by the first step).
        """
        ...

    async def local_path(self, key: str) -> Path | None:
        """The object's bytes as a local file if they are one, else None (the server may then use sendfile)."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Deletes every object whose key starts with `prefix` (which ends with '/'); returns how many."""
        ...
