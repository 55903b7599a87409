"""A file that had to be fetched whole, on the local disk while it is read."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path


class Spool:
    """A temporary file without a name, so that it ends with the process, whatever happens.

    Any number of threads may share it.
    """

    def __init__(self) -> None:
        descriptor, path = tempfile.mkstemp(prefix="servicex-spool-")
        Path(path).unlink()
        self._descriptor: int | None = descriptor
        # The number of a closed file is soon that of another one, so none is used while it may be closed.
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Takes everything out again."""
        with self._lock:
            os.ftruncate(self._open(), 0)

    def write(self, data: bytes, start: int) -> None:
        """Puts the bytes where they belong in the file."""
        with self._lock:
            rest = memoryview(data)
            while rest:
                written = os.pwrite(self._open(), rest, start)
                rest, start = rest[written:], start + written

    def read(self, start: int, stop: int) -> bytes:
        """The bytes `[start, stop)`, fewer at the end of the file.

        Raises:
            ValueError: it is closed.
        """
        with self._lock:
            return os.pread(self._open(), stop - start, start)

    def close(self) -> None:
        """Gives the room back; may be called again."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor is None:
            message = "the spool is closed"
            raise ValueError(message)
        return self._descriptor
