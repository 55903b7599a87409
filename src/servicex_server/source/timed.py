"""A source that knows how long its reader waited for bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from servicex_server.source.protocol import ByteSource


class TimedSource:
    """Passes everything on to another source."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self.location = source.location
        self.identity = source.identity
        self.size_bytes = source.size_bytes
        self.seconds_waiting = 0.0
        """Wall time of all reads, added up over threads."""

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        started = time.perf_counter()
        try:
            return self._source.read_ranges(wanted)
        finally:
            with self._lock:
                self.seconds_waiting += time.perf_counter() - started

    def close(self) -> None:
        self._source.close()
