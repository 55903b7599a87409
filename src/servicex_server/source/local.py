"""A local file, read by position."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from servicex_server.errors import SourceMissing, SourceRefused, SourceUnavailable
from servicex_server.source import ranges
from servicex_server.source.access import has_settled
from servicex_server.source.pattern import explain_wildcard
from servicex_server.source.policy import SourcePolicy, may_read_local, refuse_local
from servicex_server.store.descriptor import Descriptor

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_WILDCARDS = "*?[{"


class LocalSource:
    """Reads with `pread`: unlike a memory map, a file that shrinks meanwhile cannot kill the process."""

    def __init__(self, path: str, policy: SourcePolicy) -> None:
        """Opens `path`, which `policy.check` has resolved, and checks what was really opened.

        Raises:
            SourceRefused: by now the path leads out of the roots, or it is not a regular file.
            SourceMissing: there is no such file.
            SourceUnavailable: it cannot be opened now.
        """
        self.location = path
        self.bytes_read = 0
        self._lock = threading.Lock()
        number = _open(path)
        self._file = Descriptor(number)
        try:
            self._check_opened(number, policy)
            status = os.fstat(number)
        except BaseException:
            self.close()
            raise
        self.size_bytes = status.st_size
        self.identity = f"local:{path}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
        self.fingerprint = self.identity if has_settled(status.st_mtime) else None

    def _check_opened(self, number: int, policy: SourcePolicy) -> None:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            message = f"{self.location!r} is not a regular file"
            raise SourceRefused(message)
        # A folder on the way may have become a symbolic link since the check: ask what was opened.
        link = Path(f"/proc/self/fd/{number}")
        if (policy.unrestricted_local and not policy.forbidden_folders) or not link.parent.exists():
            return
        opened = link.readlink()
        # A file that has been deleted meanwhile has no path that could be checked.
        if not may_read_local(policy, opened):
            raise refuse_local(policy, self.location)

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        ranges.check_within(wanted, self.size_bytes, self.location)
        try:
            with self._file as number:
                found = [self._read(number, start, stop) for start, stop in wanted]
        except OSError as error:
            raise self._unreadable(error) from error
        with self._lock:
            self.bytes_read += sum(map(len, found))
        return found

    def _read(self, number: int, start: int, stop: int) -> bytes:
        pieces: list[bytes] = []
        while start < stop:
            piece = os.pread(number, stop - start, start)
            if not piece:
                raise self._shorter()
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, wanted: Sequence[tuple[int, int]], buffer: memoryview) -> None:
        ranges.check_within(wanted, self.size_bytes, self.location)
        filled = 0
        try:
            with self._file as number:
                for start, stop in wanted:
                    end = filled + stop - start
                    while filled < end:
                        n_bytes = os.preadv(number, [buffer[filled:end]], stop - (end - filled))
                        if not n_bytes:
                            raise self._shorter()
                        filled += n_bytes
        except OSError as error:
            raise self._unreadable(error) from error
        with self._lock:
            self.bytes_read += filled

    def _unreadable(self, error: OSError) -> SourceUnavailable:
        message = f"cannot read {self.location}: {error.strerror}"
        return SourceUnavailable(message)

    def _shorter(self) -> SourceUnavailable:
        message = f"{self.location} became shorter while it was read"
        return SourceUnavailable(message)

    def close(self) -> None:
        self._file.close()


def _open(path: str) -> int:
    # O_NONBLOCK: opening a pipe must not wait for its writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            message = f"{path!r} became a symbolic link while it was opened"
            raise SourceRefused(message) from error
        message = f"cannot open {path!r}: {error.strerror}"
        if error.errno not in _ABSENT:
            raise SourceUnavailable(message) from error
        hint = explain_wildcard(path, _WILDCARDS)
        raise SourceMissing(f"{message}; {hint}" if hint else message) from error
