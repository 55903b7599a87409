"""Results seen as S3 buckets: answered from the database alone."""

from __future__ import annotations

from servicex_server.model.bucket import BucketKey, BucketObject
from servicex_server.model.ids import RequestId
from servicex_server.service.context import Services


class RequestBuckets:
    """The `Buckets` port over the requests of one server; a bucket's objects are its success rows."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find_key(self, access_key: str) -> BucketKey | None:
        """The pair with this access key, or None."""
        raise NotImplementedError

    async def exists(self, bucket: RequestId) -> bool:
        """Whether the request (still) exists."""
        raise NotImplementedError

    async def find_object(self, bucket: RequestId, key: str) -> BucketObject | None:
        """The object, or None if the bucket has no such key."""
        raise NotImplementedError

    async def list_objects(
        self, bucket: RequestId, *, prefix: str, after: str | None, limit: int
    ) -> list[BucketObject]:
        """At most `limit` objects with the prefix and after `after`, ordered by the key's UTF-8 bytes."""
        raise NotImplementedError
