"""A store that forgets everything with its process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread

from servicex_server.errors import NotFound, ResourceExhausted
from servicex_server.store.backends.scratch import remove_older_than
from servicex_server.store.key import check_key, check_prefix, is_key
from servicex_server.store.protocol import MAX_NOTE_BYTES, OpenObject, Room, StoredObject

PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Held:
    content: bytes
    known: StoredObject


@dataclass(frozen=True, slots=True)
class _MemoryObject:
    stored: StoredObject
    content: bytes

    def read(self, start: int, stop: int) -> bytes:
        return self.content[start:stop]

    def close(self) -> None:
        """Nothing is held."""


class MemoryStore:
    """Keeps objects in this process; workers in other processes do not see them.

    Args:
        scratch: an existing folder for unfinished results.
        max_bytes: how much it holds in all; None for no bound.
    """

    def __init__(self, scratch: Path, *, max_bytes: int | None = None) -> None:
        self._scratch = scratch
        self._max_bytes = max_bytes
        self._objects: dict[str, _Held] = {}

    def put_file(self, key: str, path: Path) -> StoredObject:
        check_key(key)
        try:
            known = self._put(key, path.read_bytes())
        finally:
            if path.is_relative_to(self._scratch):
                path.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return known

    def put_note(self, key: str, content: bytes) -> None:
        self._put(key, content)

    def read_note(self, key: str) -> bytes | None:
        held = self._objects.get(check_key(key))
        return held.content if held and len(held.content) <= MAX_NOTE_BYTES else None

    def has(self, key: str) -> bool:
        return check_key(key) in self._objects

    def open_object(self, key: str) -> OpenObject:
        held = self._objects.get(check_key(key))
        if held is None:
            message = f"no object {key!r} in the store"
            raise NotFound(message)
        return _MemoryObject(held.known, held.content)

    def _put(self, key: str, content: bytes) -> StoredObject:
        check_key(key)
        self._check_place(key)
        self._check_room(key, len(content))
        now = datetime.now(UTC).replace(microsecond=0)
        # The suffix tells S3 clients that the tag is no MD5 sum, so that they do not verify it as one.
        etag = hashlib.blake2b(content, digest_size=16).hexdigest() + "-1"
        known = StoredObject(key, len(content), etag, now)
        self._objects[key] = _Held(content, known)
        return known

    def _check_place(self, key: str) -> None:
        # A folder could not hold both, so no store does.
        if any(other.startswith(key + "/") or key.startswith(other + "/") for other in self._objects):
            message = f"the store takes no key {key!r}: it lies within another object's key, or one within it"
            raise ValueError(message)

    def _check_room(self, key: str, size_bytes: int) -> None:
        if self._max_bytes is None:
            return
        used = sum(held.known.size_bytes for other, held in self._objects.items() if other != key)
        if used + size_bytes > self._max_bytes:
            message = (
                f"the store is full: a result of {size_bytes:,} bytes does not fit into "
                f"{self._max_bytes:,} bytes, of which {used:,} are taken"
            )
            raise ResourceExhausted(message)

    def scratch_folder(self) -> Path:
        return self._scratch

    async def clear_scratch(self, older_than: datetime) -> int:
        return await anyio.to_thread.run_sync(remove_older_than, self._scratch, older_than)

    async def head(self, key: str) -> StoredObject | None:
        held = self._objects.get(check_key(key))
        return held.known if held else None

    async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
        return [await self.head(key) if is_key(key) else None for key in keys]

    async def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        held = self._objects.get(check_key(key))
        if held is None:
            message = f"no object {key!r} in the store"
            raise NotFound(message)
        for offset in range(start, min(stop, len(held.content)), PIECE_BYTES):
            yield held.content[offset : min(offset + PIECE_BYTES, stop)]

    async def delete(self, key: str) -> None:
        self._objects.pop(check_key(key), None)

    async def delete_prefix(self, prefix: str) -> int:
        check_prefix(prefix)
        keys = [key for key in self._objects if key.startswith(prefix)]
        for key in keys:
            del self._objects[key]
        return len(keys)

    async def iter_prefixes(self) -> AsyncIterator[str]:
        for prefix in {key.split("/")[0] + "/" for key in self._objects if "/" in key}:
            yield prefix

    async def iter_keys(self, prefix: str = "") -> AsyncIterator[str]:
        if prefix:
            check_prefix(prefix)
        for key in list(self._objects):
            if key.startswith(prefix):
                yield key

    def find_room(self) -> Room | None:
        if self._max_bytes is None:
            return None
        used = sum(held.known.size_bytes for held in self._objects.values())
        return Room(max(0, self._max_bytes - used), self._max_bytes)

    def presign(self, key: str, expires_s: int, filename: str) -> str | None:  # noqa: ARG002  the port's
        check_key(key)
        return None
