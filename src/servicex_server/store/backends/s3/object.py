"""One version of an object, read by ranges."""

from __future__ import annotations

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from servicex_server.errors import NotFound, StoreRefused, StoreUnavailable
from servicex_server.store.backends.s3.fault import is_absent, is_replaced, to_fault
from servicex_server.store.backends.s3.place import S3Place
from servicex_server.store.protocol import StoredObject


class S3Object:
    """An object as it was when it was opened; other threads may read as well.

    Args:
        version: the store's own tag of it.
    """

    def __init__(self, bucket: Bucket, place: S3Place, stored: StoredObject, version: str | None) -> None:
        self.stored = stored
        self._bucket = bucket
        self._place = place
        self._version = version

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.stored.size_bytes)
        if start >= stop:
            return b""
        try:
            answer = obstore.get(
                self._bucket,
                self.stored.key,
                options={"range": (start, stop)}
                if self._version is None
                else {"range": (start, stop), "if_match": self._version},
            )
            return bytes(answer.bytes())
        except (BaseError, OSError) as error:
            if is_absent(error) or is_replaced(error):
                message = f"no object {self.stored.key!r} in the store any more"
                raise NotFound(message) from error
            fault = to_fault(error, self._place)
            raise (fault if isinstance(fault, StoreRefused) else StoreUnavailable(fault.message)) from error

    def close(self) -> None:
        """Nothing is held between reads."""
