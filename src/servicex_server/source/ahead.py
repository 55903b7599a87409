"""A source that fetches what its reader is going to ask for, while that works on what it has."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from servicex_server.source.protocol import ByteSource

Range = tuple[int, int]

_THREADS = 4


class AheadSource:
    """Passes everything on to another source, but for ranges that are there, or on their way, already."""

    def __init__(self, source: ByteSource, most_bytes: int) -> None:
        """
        Args:
            most_bytes: memory for what nobody has asked for yet.
        """
        self._source = source
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._ahead: OrderedDict[Range, tuple[Future[list[bytes]], int]] = OrderedDict()
        self._n_bytes = 0
        self._threads: ThreadPoolExecutor | None = None
        self.identity = source.identity
        self.fingerprint = source.fingerprint
        self.size_bytes = source.size_bytes

    @property
    def location(self) -> str:
        return self._source.location

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def fetch_ahead(self, wanted: Sequence[Range]) -> None:
        """Begins to fetch these ranges, unless there is no room for them."""
        with self._lock:
            missing = [place for place in dict.fromkeys(wanted) if place not in self._ahead]
            size_bytes = sum(stop - start for start, stop in missing)
            if not missing or self._n_bytes + size_bytes > self._most_bytes:
                return
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, "read-ahead")
            future = self._threads.submit(self._source.read_ranges, missing)
            self._ahead.update((place, (future, number)) for number, place in enumerate(missing))
            self._n_bytes += size_bytes

    def read_ranges(self, wanted: Sequence[Range]) -> list[bytes]:
        with self._lock:
            known = {place: self._ahead.pop(place) for place in wanted if place in self._ahead}
            self._n_bytes -= sum(stop - start for start, stop in known)
        found: dict[Range, bytes] = {}
        for place, (future, number) in known.items():
            # What could not be had before is asked for once more, so that its error has its place.
            if future.exception() is None:
                found[place] = future.result()[number]
        missing = [place for place in wanted if place not in found]
        if missing:
            found |= zip(missing, self._source.read_ranges(missing), strict=True)
        return [found[place] for place in wanted]

    def close(self) -> None:
        threads, self._threads = self._threads, None
        begun = [future for future, _ in self._ahead.values() if not future.cancel() and not future.done()]
        self._ahead.clear()
        if threads is None or not begun:
            self._finish(threads)
        else:
            # A silent server may be waited for by one of them, but not by whoever closes.
            threading.Thread(target=self._finish, args=(threads,), name="ahead-close", daemon=True).start()

    def _finish(self, threads: ThreadPoolExecutor | None) -> None:
        if threads is not None:
            threads.shutdown()
        self._source.close()
