"""Results seen as S3 buckets: answered from the database alone."""

from __future__ import annotations

from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.model.bucket import BucketKey, BucketObject
from servicex_server.model.ids import RequestId
from servicex_server.service.context import Services


class RequestBuckets:
    """The `Buckets` port over the requests of one server; a bucket's objects are its success rows."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find_key(self, access_key: str) -> BucketKey | None:
        """The pair with this access key, or None."""
        if not _is_storable(access_key):
            return None
        return await self._services.db.read(requests.find_bucket_key, access_key)

    async def exists(self, bucket: RequestId) -> bool:
        """Whether the request (still) exists."""
        if not _is_storable(bucket):
            return False
        return await self._services.db.read(requests.find_number, bucket) is not None

    async def find_object(self, bucket: RequestId, key: str) -> BucketObject | None:
        """The object, or None if the bucket has no such key."""
        if not (_is_storable(bucket) and _is_storable(key)):
            return None
        return await self._services.db.read(results.find_object, bucket, key)

    async def list_objects(
        self, bucket: RequestId, *, prefix: str, after: str | None, limit: int
    ) -> list[BucketObject]:
        """At most `limit` objects with the prefix and after `after`, ordered by the key's UTF-8 bytes."""
        if not (_is_storable(bucket) and _is_storable(prefix)):
            return []
        if after is not None and not _is_storable(after):
            # No stored key has a NUL or half a surrogate pair: what follows is the same without the rest.
            after = after.partition("\0")[0].encode(errors="ignore").decode()
        return await self._services.db.read(
            results.list_objects, bucket, prefix=prefix, after=after, limit=limit
        )


def _is_storable(text: str) -> bool:
    """Whether a database takes the text: PostgreSQL refuses NUL, and none takes half a surrogate pair."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
