"""A request's results seen as an S3 bucket: its key pair, its objects, and the port that finds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from servicex_server.model.ids import RequestId


@dataclass(frozen=True, slots=True)
class BucketKey:
    """The S3 key pair of one request; it opens that request's bucket and no other."""

    access_key: str
    secret_key: str = field(repr=False)
    bucket: RequestId


@dataclass(frozen=True, slots=True)
class BucketObject:
    """One result as clients see it, and where the store keeps it.

    Attributes:
        key: name inside the bucket, any text without NUL of at most 1,024 bytes in UTF-8.
        etag: opaque version tag without quotes.
        modified: UTC, timezone-aware.
        store_key: key inside the store.
    """

    key: str
    size_bytes: int
    etag: str
    modified: datetime
    store_key: str


class Buckets(Protocol):
    """What the S3 endpoint needs to know of requests."""

    async def find_key(self, access_key: str) -> BucketKey | None:
        """The pair with this access key, or None."""
        ...

    async def exists(self, bucket: RequestId) -> bool:
        """Whether the request (still) exists."""
        ...

    async def find_object(self, bucket: RequestId, key: str) -> BucketObject | None:
        """The object, or None if the bucket has no such key."""
        ...

    async def list_objects(
        self, bucket: RequestId, *, prefix: str, after: str | None, limit: int
    ) -> list[BucketObject]:
        """Objects whose key starts with `prefix` and comes after `after`, ordered by the key's UTF-8 bytes.

        `after` is any text, not only an existing key; at most `limit` objects come.
        """
        ...


class MemoryBuckets:
    """Buckets held in this process, for tests and trials."""

    def __init__(self) -> None:
        self._keys: dict[str, BucketKey] = {}
        self._objects: dict[RequestId, dict[str, BucketObject]] = {}

    def add_bucket(self, key: BucketKey) -> None:
        """Makes an empty bucket that `key` opens."""
        self._keys[key.access_key] = key
        self._objects.setdefault(key.bucket, {})

    def add_object(self, bucket: RequestId, found: BucketObject) -> None:
        """Puts an object into a bucket, in place of one with the same key."""
        self._objects[bucket][found.key] = found

    def delete_bucket(self, bucket: RequestId) -> None:
        """Forgets the bucket, but not its key pair."""
        del self._objects[bucket]

    async def find_key(self, access_key: str) -> BucketKey | None:
        return self._keys.get(access_key)

    async def exists(self, bucket: RequestId) -> bool:
        return bucket in self._objects

    async def find_object(self, bucket: RequestId, key: str) -> BucketObject | None:
        return self._objects.get(bucket, {}).get(key)

    async def list_objects(
        self, bucket: RequestId, *, prefix: str, after: str | None, limit: int
    ) -> list[BucketObject]:
        start = b"" if after is None else after.encode()
        objects = self._objects.get(bucket, {})
        keys = (key for key in objects if key.startswith(prefix) and key.encode() > start)
        return [objects[key] for key in sorted(keys, key=str.encode)[:limit]]
