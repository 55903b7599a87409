"""What uproot reads from: a `ByteSource` in the shape that uproot expects."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import uproot.source.chunk
import uproot.source.futures

from servicex_server.errors import SourceCorrupt
from servicex_server.run.read.buffer import KeptBuffer
from servicex_server.source.protocol import AheadReader, BufferSource, ByteSource
from servicex_server.source.ranges import check_within

_PREFETCH_BYTES = 256 * 1024 * 1024
"""Ranges are fetched ahead together up to so many bytes; beyond, as they are asked for."""
_MOST_DIGESTS = 256
"""Pieces of metadata of one file; with more of them it is not worth keeping."""

ByteRange = tuple[int, int]


class RangeSource(uproot.source.chunk.Source):  # type: ignore[misc]  # uproot ships no types
    """Answers uproot from a `ByteSource`, in the calling thread.

    The source outlives it: whoever opened it closes it. Uproot, and what is fetched ahead for it, are
    for one thread at a time: whoever lets uproot read holds the `lock`.
    """

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__()
        self._bytes: ByteSource = options["byte_source"]
        self._file_path = file_path
        self._num_bytes = self._bytes.size_bytes
        self._ahead: dict[ByteRange, bytes] = {}
        self._is_closed = False
        self._digests: dict[ByteRange, bytes] = {}
        self.metadata_bytes = 0
        self.lock = threading.RLock()
        self.bytes_decompressed = 0
        self._count_lock = threading.Lock()

    @property
    def location(self) -> str:
        """Where the bytes come from now, safe to show."""
        return self._bytes.location

    @property
    def reads_ahead(self) -> bool:
        """Whether bytes come from afar, and may be fetched while other work is done."""
        return isinstance(self._bytes, AheadReader)

    def begin(self, find: Callable[[], Sequence[ByteRange]]) -> None:
        """Begins to fetch ranges for `read_ranges`, if the source can do that beside other work."""
        if isinstance(self._bytes, AheadReader):
            self._bytes.fetch_ahead(find())

    def count_decompressed(self, n_bytes: int) -> None:
        with self._count_lock:
            self.bytes_decompressed += n_bytes

    def read_ranges(self, wanted: Sequence[ByteRange]) -> Sequence[bytes | memoryview]:
        """The bytes of each range, past uproot; any thread may ask.

        They may be valid only until the same thread asks again.
        """
        if not isinstance(self._bytes, BufferSource):
            return self._bytes.read_ranges(wanted)
        # Before memory is asked for: a damaged file may claim any number of bytes.
        check_within(wanted, self._num_bytes, self._bytes.location)
        buffer = _thread.buffer.room(sum(stop - start for start, stop in wanted)).data
        self._bytes.read_into(wanted, buffer)
        pieces: list[memoryview] = []
        position = 0
        for start, stop in wanted:
            pieces.append(buffer[position : position + stop - start])
            position += stop - start
        return pieces

    def fetch_ahead(self, wanted: Sequence[ByteRange]) -> None:
        """Fetches ranges that are about to be asked for, in as few requests as the protocol needs."""
        ranges = [(int(start), int(stop)) for start, stop in dict.fromkeys(wanted)]
        if sum(stop - start for start, stop in ranges) <= _PREFETCH_BYTES:
            self._ahead = dict(zip(ranges, self._bytes.read_ranges(ranges), strict=True))

    def forget_ahead(self) -> None:
        self._ahead = {}

    def read_metadata(self, wanted: Sequence[ByteRange]) -> list[bytes]:
        """Bytes that must be the same when another source is attached; any thread may ask."""
        pieces = self._bytes.read_ranges(wanted)
        for place, piece in zip(wanted, pieces, strict=True):
            self._remember(place, piece)
        return pieces

    def chunk(self, start: int, stop: int) -> Any:
        wanted = int(start), int(stop)
        # What was fetched ahead are baskets and pages.
        is_metadata = wanted not in self._ahead
        data = self._read([wanted])[0]
        if is_metadata:
            self._remember(wanted, data)
        return self._filled(*wanted, data)

    def _remember(self, place: ByteRange, data: bytes) -> None:
        if place not in self._digests:
            self._digests[place] = _digest(data)
            self.metadata_bytes += len(data)

    def attach(self, source: ByteSource) -> bool:
        """Reads from another source from now on, if what was read of the old one is the same there.

        That is what uproot reads one by one: headers, directories, and the metadata of trees; not baskets.
        """
        if source.size_bytes != self._num_bytes:
            return False
        pieces = source.read_ranges([self._clamped(wanted) for wanted in self._digests])
        self._bytes = source
        self.bytes_decompressed = 0
        return all(
            _digest(piece) == digest for piece, digest in zip(pieces, self._digests.values(), strict=True)
        )

    def detach(self) -> bool:
        """Forgets where the bytes come from; whether another source may be attached later."""
        del self._bytes
        self._ahead = {}
        return not self._is_closed and len(self._digests) <= _MOST_DIGESTS

    def chunks(self, ranges: list[ByteRange], notifications: queue.Queue[Any]) -> list[Any]:
        overlap = sum(stop - start for start, stop in ranges) > self._num_bytes
        if overlap or len(set(ranges)) != len(ranges):
            # uproot would wait for ever for the second of two equal ranges.
            message = f"{self._bytes.location}: two baskets claim the same bytes"
            raise SourceCorrupt(message)
        filled = [
            self._filled(start, stop, data)
            for (start, stop), data in zip(ranges, self._read(ranges), strict=True)
        ]
        for chunk in filled:
            notifications.put(chunk)
        return filled

    def _read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        missing = [wanted for wanted in ranges if wanted not in self._ahead]
        # The first request may ask for more than a small file has; uproot notices if it then lacks bytes.
        clamped = [self._clamped(wanted) for wanted in missing]
        fetched = dict(zip(missing, self._bytes.read_ranges(clamped), strict=True))
        return [fetched[wanted] if wanted in fetched else self._ahead.pop(wanted) for wanted in ranges]

    def _clamped(self, wanted: ByteRange) -> ByteRange:
        return min(wanted[0], self._num_bytes), min(wanted[1], self._num_bytes)

    def _filled(self, start: int, stop: int, data: bytes) -> Any:
        future = uproot.source.futures.TrivialFuture(data)
        return uproot.source.chunk.Chunk(self, start, stop, future)

    @property
    def closed(self) -> bool:
        return self._is_closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_closed = True
        self._ahead = {}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class _Thread(threading.local):
    """What each thread has for itself."""

    def __init__(self) -> None:
        self.buffer = KeptBuffer()


_thread = _Thread()
