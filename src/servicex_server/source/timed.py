"""A source that knows how long its reader waited for bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from servicex_server.source.protocol import AheadReader, BufferSource, ByteSource


class TimedSource:
    """Passes everything on to another source."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self.identity = source.identity
        self.fingerprint = source.fingerprint
        self.size_bytes = source.size_bytes
        self.seconds_waiting = 0.0
        """Wall time of all reads, added up over threads."""

    @property
    def location(self) -> str:
        return self._source.location

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._waiting():
            return self._source.read_ranges(wanted)

    def close(self) -> None:
        self._source.close()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds_waiting += time.perf_counter() - started


class _TimedBufferSource(TimedSource):
    """Also reads into memory that is there already, as the source behind it can."""

    def __init__(self, source: ByteSource, buffers: BufferSource) -> None:
        super().__init__(source)
        self._buffers = buffers

    def read_into(self, wanted: Sequence[tuple[int, int]], buffer: memoryview) -> None:
        with self._waiting():
            self._buffers.read_into(wanted, buffer)


class _TimedAheadReader(TimedSource):
    """Also fetches ranges before they are asked for, as the source behind it can."""

    def __init__(self, source: ByteSource, ahead: AheadReader) -> None:
        super().__init__(source)
        self._ahead = ahead

    def fetch_ahead(self, wanted: Sequence[tuple[int, int]]) -> None:
        self._ahead.fetch_ahead(wanted)


def timed(source: ByteSource) -> TimedSource:
    """The source with a clock: a `BufferSource` or `AheadReader` if the source is one."""
    if isinstance(source, AheadReader):
        return _TimedAheadReader(source, source)
    return _TimedBufferSource(source, source) if isinstance(source, BufferSource) else TimedSource(source)
