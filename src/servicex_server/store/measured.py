"""A store that tells how long its operations take."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from pathlib import Path

from servicex_server.store.protocol import OpenObject, Room, Store, StoredObject
from servicex_server.telemetry.metrics import STORE_SECONDS


class MeasuredStore:
    """Passes everything on to another store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put_file(self, key: str, path: Path) -> StoredObject:
        with _timed("put"):
            return self._store.put_file(key, path)

    def put_note(self, key: str, content: bytes) -> None:
        with _timed("put_note"):
            self._store.put_note(key, content)

    def read_note(self, key: str) -> bytes | None:
        with _timed("read_note"):
            return self._store.read_note(key)

    def has(self, key: str) -> bool:
        with _timed("has"):
            return self._store.has(key)

    def open_object(self, key: str) -> OpenObject:
        with _timed("open"):
            return self._store.open_object(key)

    def scratch_folder(self) -> Path:
        return self._store.scratch_folder()

    async def clear_scratch(self, older_than: datetime) -> int:
        return await self._store.clear_scratch(older_than)

    async def head(self, key: str) -> StoredObject | None:
        with _timed("head"):
            return await self._store.head(key)

    async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
        with _timed("heads"):
            return await self._store.heads(keys)

    async def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._store.stream(key, start, stop)) as pieces:
            with _timed("stream"):
                first = await anext(pieces, None)
            if first is None:
                return
            yield first
            async for piece in pieces:
                yield piece

    async def delete(self, key: str) -> None:
        with _timed("delete"):
            await self._store.delete(key)

    async def delete_prefix(self, prefix: str) -> int:
        with _timed("delete_prefix"):
            return await self._store.delete_prefix(prefix)

    def iter_prefixes(self) -> AsyncIterator[str]:
        return self._store.iter_prefixes()

    def iter_keys(self, prefix: str = "") -> AsyncIterator[str]:
        return self._store.iter_keys(prefix)

    def find_room(self) -> Room | None:
        return self._store.find_room()

    def presign(self, key: str, expires_s: int, filename: str) -> str | None:
        return self._store.presign(key, expires_s, filename)


@contextmanager
def _timed(operation: str) -> Iterator[None]:
    started_s = time.perf_counter()
    try:
        yield
    finally:
        STORE_SECONDS.labels(operation).observe(time.perf_counter() - started_s)
