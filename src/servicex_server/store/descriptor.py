"""An open file that one thread may close while others read from it."""

from __future__ import annotations

import errno
import os
import threading


class Descriptor:
    """Holds a file open for as long as anybody reads from it: `with` gives its number.

    The number of a closed file is soon that of another one. Whoever still reads by the old number would get
    the other file's bytes, and no error.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._n_readers = 0
        self._is_closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        """The number, good until the block ends.

        Raises:
            OSError: the file has been closed.
        """
        with self._lock:
            if self._is_closed:
                raise OSError(errno.EBADF, "it has been closed")
            self._n_readers += 1
        return self._number

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._n_readers -= 1
            is_unused = self._is_closed and not self._n_readers
        if is_unused:
            os.close(self._number)

    def close(self) -> None:
        """Lets nobody begin to read any more; never waits. May be called again."""
        with self._lock:
            is_unused = not self._is_closed and not self._n_readers
            self._is_closed = True
        if is_unused:
            os.close(self._number)
