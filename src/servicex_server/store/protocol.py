"""The port to wherever result objects are kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

MAX_NOTE_BYTES = 2**20
"""What `read_note` returns at most."""


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


@dataclass(frozen=True, slots=True)
class Room:
    """What there is on the store's disk.

    Attributes:
        free_bytes: what we may still write.
        size_bytes: of the whole disk, whoever uses it.
    """

    free_bytes: int
    size_bytes: int


class OpenObject(Protocol):
    """One version of an object, open for reading; for any number of threads."""

    @property
    def stored(self) -> StoredObject: ...

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `[start, stop)`; fewer where the object ends.

        Raises:
            NotFound: that version is gone (a folder keeps it readable while it is open).
            StoreUnavailable: a store elsewhere cannot be reached.
        """
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """Keeps immutable objects under slash-separated keys such as `<request id>/<file id>-1`.

    A put is atomic: readers see the whole object or none. Putting a key again replaces it.
    The blocking methods are for worker processes; the async ones for the server.
    What a key may look like is said in `store.key`; every method raises ValueError for others.
    """

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Moves (or uploads) the finished file at `path` to `key`, durably, and returns what is stored.

        A file in the scratch folder is gone afterwards, stored or not.

        Raises:
            ResourceExhausted: the disk is full or a quota is reached; nothing was stored.
            StoreUnavailable: a store elsewhere cannot be reached, or refuses us, after all patience.
            ValueError: no such key can be, or it lies within another object's key (told by stores that
                cannot hold both).
        """
        ...

    def put_note(self, key: str, content: bytes) -> None:
        """Puts a few bytes, as a whole or not at all, in place of what is there. A power cut may undo it.

        Raises:
            ResourceExhausted, StoreUnavailable, ValueError: as `put_file`.
        """
        ...

    def read_note(self, key: str) -> bytes | None:
        """What `put_note` put, or None if there is nothing, or more than `MAX_NOTE_BYTES`.

        Raises:
            StoreUnavailable: a store elsewhere cannot be reached.
        """
        ...

    def has(self, key: str) -> bool:
        """Whether there is an object.

        Raises:
            StoreUnavailable: a store elsewhere cannot be reached.
        """
        ...

    def open_object(self, key: str) -> OpenObject:
        """The object, to be read by ranges; whoever opens it closes it.

        Raises:
            NotFound: no such object.
            StoreUnavailable: a store elsewhere cannot be reached.
        """
        ...

    def scratch_folder(self) -> Path:
        """A local folder in which workers write results before they put them."""
        ...

    async def clear_scratch(self, older_than: datetime) -> int:
        """Removes what killed workers left unfinished before that time; returns how many things.

        These are scratch files on this machine and, where a store knows such, uploads never completed.
        """
        ...

    async def head(self, key: str) -> StoredObject | None:
        """What is stored under `key`, or None."""
        ...

    async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
        """The same for many keys, which costs less; None also for what can be no key."""
        ...

    def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Bytes `[start, stop)` in pieces of at most 1 MiB; ends early where the object ends.

        What was opened stays readable to its end, also if the key is put again or deleted meanwhile;
        over a network that holds unless the connection to the store breaks. Bytes of two versions are
        never mixed. Whoever leaves the generator before its end closes it (`contextlib.aclosing`).

        Raises:
            NotFound: no such object (raised by the first step; later, if it is gone after the connection
                to the store broke).
            StoreUnavailable: a store elsewhere cannot be reached (any more).
        """
        ...

    async def delete(self, key: str) -> None:
        """Deletes the object under `key`; one that is not there is no error."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Deletes every object whose key starts with `prefix` (which ends with '/'); returns how many."""
        ...

    def iter_prefixes(self) -> AsyncIterator[str]:
        """The first segment of every key, each once and with its '/': what an orphan sweep compares.

        Some S3 servers tell those of keys that are gone for a while longer.
        """
        ...

    def iter_keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Every key that starts with `prefix` (empty, or ending with '/'), in no particular order."""
        ...

    def find_room(self) -> Room | None:
        """What there is on the store's disk (blocks for a moment); None if the store does not know."""
        ...

    def presign(self, key: str, expires_s: int, filename: str) -> str | None:
        """A URL with which anybody may read the object directly from the store for `expires_s` seconds.

        None if the store has no door of its own. Nothing is looked up: the URL of an object that is not
        there leads to an error.

        Args:
            filename: what a browser saves it as.
        """
        ...
