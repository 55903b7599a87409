"""A result of an earlier request, read from the store it lies in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from servicex_server.errors import NotFound, SourceMissing, SourceUnavailable, StoreUnavailable
from servicex_server.model.earlier import split_location
from servicex_server.source import ranges
from servicex_server.source.protocol import ByteSource
from servicex_server.store.protocol import Store

_GAP_BYTES = 32 * 1024
_REQUEST_BYTES = 16 * 1024 * 1024


class StoredSource:
    """Reads an object through the store's port: workers need no address of it, and no credentials more."""

    def __init__(self, location: str, store: Store, key: str) -> None:
        """Opens the object.

        Raises:
            SourceMissing: it is gone.
            SourceUnavailable: the store cannot be reached now.
        """
        self.location = location
        self.bytes_read = 0
        self._is_closed = False
        self._lock = threading.Lock()
        try:
            self._object = store.open_object(key)
        except NotFound as error:
            raise _gone(location) from error
        except StoreUnavailable as error:
            raise _away(location, error) from error
        stored = self._object.stored
        self.size_bytes = stored.size_bytes
        self.identity = f"store:{key}:{stored.size_bytes}:{stored.etag}"
        self.fingerprint = self.identity  # equal tags mean equal bytes

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        ranges.check_within(wanted, self.size_bytes, self.location)
        filled = [place for place in wanted if place[0] < place[1]]
        blocks = ranges.coalesce(filled, gap_bytes=_GAP_BYTES, most_bytes=_REQUEST_BYTES)
        fetched = {block: self._read(*block) for block in blocks}
        return [ranges.cut(fetched, start, stop) for start, stop in wanted]

    def _read(self, start: int, stop: int) -> bytes:
        if self._is_closed:
            message = f"{self.location} is read no more"
            raise SourceUnavailable(message)
        try:
            data = self._object.read(start, stop)
        except NotFound as error:
            raise _gone(self.location) from error
        except StoreUnavailable as error:
            raise _away(self.location, error) from error
        if len(data) != stop - start:
            message = f"{self.location}: the store sent {len(data)} of {stop - start} bytes"
            raise SourceUnavailable(message)
        with self._lock:
            self.bytes_read += len(data)
        return data

    def close(self) -> None:
        self._is_closed = True
        self._object.close()


def opener_of(store: Store, location: str, key: str | None) -> Callable[[str], ByteSource] | None:
    """What opens a file that is a result of an earlier request; None for all others.

    Args:
        key: where the server found its object; None if there is none, as the request was deleted.
    """
    if split_location(location) is None:
        return None

    def open_stored(location: str) -> ByteSource:
        if key is None:
            raise _gone(location)
        return StoredSource(location, store, key)

    return open_stored


def _gone(location: str) -> SourceMissing:
    request_id, object_name = split_location(location) or ("", location)
    message = f"the result {object_name} of request {request_id} is gone: that request has been deleted"
    return SourceMissing(message)


def _away(location: str, error: StoreUnavailable) -> SourceUnavailable:
    message = f"cannot read {location}: {error.message}"
    return SourceUnavailable(message)
