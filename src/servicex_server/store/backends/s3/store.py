"""The store in a bucket."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import obstore
from obstore.exceptions import BaseError

from servicex_server.errors import (
    ConfigurationError,
    NotFound,
    StoreRefused,
    StoreUnavailable,
)
from servicex_server.store.backends.s3.client import Clients
from servicex_server.store.backends.s3.credential import CredentialSource
from servicex_server.store.backends.s3.fault import is_absent, to_fault
from servicex_server.store.backends.s3.object import S3Object
from servicex_server.store.backends.s3.patience import S3Patience, pauses
from servicex_server.store.backends.s3.place import S3Place
from servicex_server.store.backends.s3.reading import read_range
from servicex_server.store.backends.s3.signing import LONGEST_S, disposition, sign_url
from servicex_server.store.backends.s3.unfinished import abort_unfinished
from servicex_server.store.backends.scratch import remove_older_than
from servicex_server.store.key import check_key, check_prefix
from servicex_server.store.protocol import MAX_NOTE_BYTES, OpenObject, Room, StoredObject

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger(__name__)

PART_BYTES = 8 * 2**20
"""Larger files go in parts of so much, two at a time: what an upload takes of memory."""

_HEADS_AT_ONCE = 16
_PARTS_AT_ONCE = 2
_MOST_PARTS = 9_000  # S3 allows 10,000
_LISTED_AT_ONCE = 1000  # as many as S3 deletes in one call
_TAG = re.compile(r"[0-9a-z-]{1,200}")
_MD5 = re.compile(r"[0-9a-f]{32}")


class S3Store:
    """Keeps objects in a bucket of an S3 server; any number of processes may use it.

    Connections are made at the first call in each process, so a store may be made before forking, but not
    be used. What it costs beside the data: a HEAD after each put, which tells what the store has.

    Args:
        scratch: a local folder for unfinished results; is made, readable by its owner alone.
        credentials: who we are; see `credential.find_credentials`.
        bulk_delete: many objects are deleted in one call; off for servers that do not know it.

    Raises:
        ConfigurationError: the folder cannot be made.
    """

    def __init__(
        self,
        place: S3Place,
        *,
        scratch: Path,
        credentials: CredentialSource,
        patience: S3Patience | None = None,
        bulk_delete: bool = True,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._place = place
        self._scratch = scratch.absolute()
        self._credentials = credentials
        self._patience = patience or S3Patience()
        self._part_bytes = part_bytes
        self._clients = Clients(place, credentials, self._patience, bulk_delete=bulk_delete)
        self._has_bucket = False
        try:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            message = f"the result store cannot use the scratch folder {scratch}: {error.strerror}"
            raise ConfigurationError(message) from error

    # For worker processes

    def put_file(self, key: str, path: Path) -> StoredObject:
        try:
            self._place.full_key(key)
            stored = self._put_patiently(key, path)
        finally:
            if path.is_relative_to(self._scratch):
                path.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return stored

    def _put_patiently(self, key: str, path: Path) -> StoredObject:
        give_up_s = time.monotonic() + self._patience.put_s
        for pause_s in pauses():
            try:
                return self._put_once(key, path)
            except StoreUnavailable as fault:
                if isinstance(fault, StoreRefused) or time.monotonic() + pause_s > give_up_s:
                    raise
                logger.warning("object.put: tried again in %.1f s: %s", pause_s, fault.message)
            time.sleep(pause_s)
        raise AssertionError  # pauses never end

    def _put_once(self, key: str, path: Path) -> StoredObject:
        size_bytes = path.stat().st_size
        part_bytes = max(self._part_bytes, -(-size_bytes // _MOST_PARTS))
        bucket = self._clients.calling()
        try:
            obstore.put(
                bucket,
                key,
                path,
                use_multipart=size_bytes > part_bytes,
                chunk_size=part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            )
            stored = _describe(key, obstore.head(bucket, key))
        except (BaseError, OSError) as error:
            raise to_fault(error, self._place) from error
        if stored.size_bytes != size_bytes:
            message = (
                f"the result store {self._place} has {stored.size_bytes:,} of {size_bytes:,} bytes sent to it"
            )
            raise StoreUnavailable(message)
        return stored

    def put_note(self, key: str, content: bytes) -> None:
        self._place.full_key(key)
        try:
            obstore.put(self._clients.calling(), key, content)
        except (BaseError, OSError) as error:
            raise to_fault(error, self._place) from error

    def read_note(self, key: str) -> bytes | None:
        self._place.full_key(key)
        try:
            result = obstore.get(self._clients.calling(), key)
            return bytes(result.bytes()) if result.meta["size"] <= MAX_NOTE_BYTES else None
        except (BaseError, OSError) as error:
            if is_absent(error):
                return None
            raise to_fault(error, self._place) from error

    def has(self, key: str) -> bool:
        self._place.full_key(key)
        try:
            obstore.head(self._clients.calling(), key)
        except (BaseError, OSError) as error:
            if is_absent(error):
                return False
            raise to_fault(error, self._place) from error
        return True

    def open_object(self, key: str) -> OpenObject:
        self._place.full_key(key)
        bucket = self._clients.calling()
        try:
            meta = obstore.head(bucket, key)
        except (BaseError, OSError) as error:
            if is_absent(error):
                message = f"no object {key!r} in the store"
                raise NotFound(message) from error
            raise to_fault(error, self._place) from error
        return S3Object(bucket, self._place, _describe(key, meta), meta["e_tag"])

    def scratch_folder(self) -> Path:
        return self._scratch

    # For the server

    async def clear_scratch(self, older_than: datetime) -> int:
        n_removed = await anyio.to_thread.run_sync(remove_older_than, self._scratch, older_than)
        return n_removed + await abort_unfinished(self._place, self._credentials, self._patience, older_than)

    async def head(self, key: str) -> StoredObject | None:
        self._place.full_key(key)
        try:
            return _describe(key, await obstore.head_async(self._clients.calling(), key))
        except (BaseError, OSError) as error:
            if is_absent(error):
                await self._require_bucket()
                return None
            raise to_fault(error, self._place) from error

    async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
        slots = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def look_up(key: str) -> StoredObject | None:
            try:
                self._place.full_key(key)
            except ValueError:
                return None
            async with slots:
                return await self.head(key)

        return list(await asyncio.gather(*map(look_up, keys)))

    async def _require_bucket(self) -> None:
        """Raises StoreRefused if there is no bucket: an answer to HEAD does not tell what is missing."""
        if self._has_bucket:
            return
        async for _ in self.iter_keys(f"{uuid.uuid4()}/"):
            break
        self._has_bucket = True

    async def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        self._place.full_key(key)
        if start >= stop:
            if await self.head(key) is None:
                message = f"no object {key!r} in the store"
                raise NotFound(message)
            return
        reading = read_range(
            self._clients.reading(), key, start, stop, place=self._place, patience=self._patience
        )
        async with aclosing(reading) as pieces:
            async for piece in pieces:
                yield piece

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._delete([key])

    async def delete_prefix(self, prefix: str) -> int:
        check_prefix(prefix)
        n_deleted = 0
        async for keys in self._pages(prefix):
            await self._delete(keys)
            n_deleted += len(keys)
        return n_deleted

    async def _delete(self, keys: list[str]) -> None:
        try:
            await obstore.delete_async(self._clients.calling(), keys)
        except (BaseError, OSError) as error:
            if not is_absent(error):
                raise to_fault(error, self._place) from error

    async def iter_prefixes(self) -> AsyncIterator[str]:
        """As the port has it; holds all prefixes (not the keys) in memory, some 100 bytes each."""
        try:
            listed = await obstore.list_with_delimiter_async(self._clients.calling())
        except (BaseError, OSError) as error:
            raise to_fault(error, self._place) from error
        for prefix in listed["common_prefixes"]:
            yield prefix.rstrip("/") + "/"

    async def iter_keys(self, prefix: str = "") -> AsyncIterator[str]:
        if prefix:
            check_prefix(prefix)
        async for keys in self._pages(prefix):
            for key in keys:
                yield key

    async def _pages(self, prefix: str) -> AsyncIterator[list[str]]:
        try:
            async for page in obstore.list(
                self._clients.calling(), prefix or None, chunk_size=_LISTED_AT_ONCE
            ):
                yield [found["path"] for found in page]
        except (BaseError, OSError) as error:
            raise to_fault(error, self._place) from error

    def find_room(self) -> Room | None:
        return None  # S3 has no word for it

    def presign(self, key: str, expires_s: int, filename: str) -> str | None:
        return sign_url(
            "GET",
            self._place.object_url(key, public=True),
            {"response-content-disposition": disposition(filename)},
            credential=self._credentials(),
            region=self._place.region,
            expires_s=max(1, min(expires_s, LONGEST_S)),
        )


def _describe(key: str, meta: ObjectMeta) -> StoredObject:
    modified = meta["last_modified"].astimezone(UTC).replace(microsecond=0)
    return StoredObject(key, meta["size"], _to_etag(meta["e_tag"] or ""), modified)


def _to_etag(given: str) -> str:
    """The store's tag in the shape of ours, which never looks like an MD5 sum.

    What encrypts or compresses underneath may give tags that look like MD5 sums and are none.
    """
    tag = given.removeprefix("W/").strip('"').lower()
    if not _TAG.fullmatch(tag):
        tag = hashlib.blake2b(given.encode(), digest_size=16).hexdigest()
    return f"{tag}-1" if _MD5.fullmatch(tag) else tag
