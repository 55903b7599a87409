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


@runtime_checkable
class EdgeSource(Protocol):
    """A source that fetched the file's beginning and end when it was opened."""

    def edges(self) -> dict[tuple[int, int], bytes]:
        """What it has of them, by place: two replicas with the same edges are the same file."""
        ...


@runtime_checkable
class AheadReader(Protocol):
    """A source that can fetch ranges before they are asked for."""

    def fetch_ahead(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Begins to fetch these ranges, unless too much is under way; they are asked for as they are here."""
        ...


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """How long, how often and how much a source may try.

    Attributes:
        connect_s: to establish a connection.
        idle_s: between two pieces of an answer.
        open_s: to open a file, all tries included.
        request_s: one read, from its start to its last byte, all tries included.
        least_bytes_per_s: a read may take `idle_s`, and so long as this rate needs, if that is less.
        hedge_s: a replica that is not open by then gets company: the next one is opened beside it, and
            whichever is first is read; None to wait for each in turn.
        n_attempts: tries per request, the first included.
        backoff_s: pause before the second try; doubles with each further one.
        n_redirects: hops a server may send us on.
        n_connections: requests in flight at once.
        n_ranges: ranges in one request, if the server takes several.
        gap_bytes: ranges closer than this are fetched as one.
        request_bytes: fetch at most this much in one request.
        tail_bytes: so much of the end of a file is fetched when it is opened; its directory lies there.
        ahead_bytes: memory for what is fetched before it is asked for.
        spool_bytes: largest file to fetch whole from a server that cannot serve ranges.
    """

    connect_s: float = 10.0
    idle_s: float = 30.0
    open_s: float = 45.0
    request_s: float = 300.0
    least_bytes_per_s: int = 100_000
    hedge_s: float | None = None
    n_attempts: int = 4
    backoff_s: float = 0.25
    n_redirects: int = 5
    n_connections: int = 4
    n_ranges: int = 100
    gap_bytes: int = 32 * 1024
    request_bytes: int = 16 * 1024 * 1024
    tail_bytes: int = 128 * 1024
    ahead_bytes: int = 64 * 1024 * 1024
    spool_bytes: int = 2 * 1024 * 1024 * 1024

    def read_s(self, n_bytes: int) -> float:
        """How long a read of so many bytes may take."""
        return min(self.request_s, self.idle_s + n_bytes / self.least_bytes_per_s)
