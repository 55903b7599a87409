"""The port to the bytes of one replica, and the bounds that every implementation keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class ByteSource(Protocol):
    """Random access to one file that does not change while it is read."""

    @property
    def location(self) -> str:
        """Where the bytes come from, safe to show: no credentials."""
        ...

    @property
    def identity(self) -> str:
        """Changes whenever the file's content may have changed."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """Names the content for good: equal fingerprints, now and later, mean equal bytes.

        None if the place does not tell enough for that.
        """
        ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def bytes_read(self) -> int:
        """How many bytes were fetched so far."""
        ...

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each `[start, stop)`, in the order asked.

        Raises:
            SourceUnavailable: the bytes cannot be had now.
            SourceCorrupt: a range lies outside the file.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class BufferSource(Protocol):
    """A source that can read into memory that is there already, which saves asking the system for more."""

    def read_into(self, wanted: Sequence[tuple[int, int]], buffer: memoryview) -> None:
        """Puts the bytes of each `[start, stop)` into the buffer, one range after the other.

        Raises:
            SourceUnavailable: the bytes cannot be had now.
            SourceCorrupt: a range lies outside the file.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """How long, how often and how much a source may try.

    Attributes:
        connect_s: to establish a connection.
        idle_s: between two pieces of an answer.
        request_s: one request, from its start to its last byte.
        n_attempts: tries per request, the first included.
        backoff_s: pause before the second try; doubles with each further one.
        n_redirects: hops a server may send us on.
        n_connections: requests in flight at once.
        gap_bytes: ranges closer than this are fetched as one.
        request_bytes: fetch at most this much in one request.
        spool_bytes: largest file to fetch whole from a server that cannot serve ranges.
    """

    connect_s: float = 10.0
    idle_s: float = 30.0
    request_s: float = 300.0
    n_attempts: int = 4
    backoff_s: float = 0.25
    n_redirects: int = 5
    n_connections: int = 4
    gap_bytes: int = 32 * 1024
    request_bytes: int = 16 * 1024 * 1024
    spool_bytes: int = 2 * 1024 * 1024 * 1024
