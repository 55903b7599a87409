"""A file behind http(s), read by ranges."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from servicex_server.errors import (
    ServicexError,
    SourceCorrupt,
    SourceRefused,
    SourceUnavailable,
    SpoolUnavailable,
)
from servicex_server.grid.identity import explain_refusal
from servicex_server.model.naming import show_location
from servicex_server.source import multipart, ranges
from servicex_server.source.access import digest_url
from servicex_server.source.hop import REDIRECTS, make_request, redirected
from servicex_server.source.multipart import CONTENT_RANGE
from servicex_server.source.patience import PassingFault, try_often
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.spool import Spool
from servicex_server.source.transport import CheckedTransport

Block = tuple[int, int]
P = TypeVar("P")
T = TypeVar("T")

_HEAD_BYTES = 64 * 1024
"""The first request asks for so much: a file's header lies within, and the directory of a small one."""
_MOVED_ON = (401, 403, 404, 410)
"""Answers of a place that we were once sent to, when it holds the file no more or its signature has ended."""
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]+"')
_ONE_RANGE_ONLY = (200, 400, 413, 416, 431, 501)
"""Answers of servers, or of what stands before them, that do not take several ranges in one request."""
_PART_BYTES = 512
"""At most, what a piece of an answer in pieces has around it."""
_BYTES_PER_CONNECTION = 2 * 1024 * 1024
"""For less it does not pay to share ranges between connections."""


class _Hosts:
    """What was found out about some hosts. For any number of threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, bool] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, host: str) -> bool:
        return host in self._known

    def get(self, host: str) -> bool:
        return self._known.get(host, False)

    def put(self, host: str, *, value: bool) -> None:
        with self._lock:
            self._known[host] = value
            if len(self._known) > self._most:
                self._known.popitem(last=False)


_from_end = _Hosts(512)
"""Whether a server understands a range that is counted from the end. Some answer with the whole file."""


class _OneRangeOnly(Exception):
    """The server does not answer several ranges in one request."""


class _BeyondEnd(Exception):
    """The server promises bytes that a file of this size does not have."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one request brought.

    Attributes:
        start: place of the first byte.
        size_bytes: of the whole file.
        version: the server's tag of the file's content.
        tag: that tag, if it is a strong one.
        is_whole: the server ignored the range; the body went to the spool.
    """

    start: int
    data: bytes
    size_bytes: int
    version: str
    tag: str | None
    is_whole: bool = False


class HttpSource:
    """Keeps connections, follows a few redirects, tries again, and refuses private addresses.

    Several ranges go into one request as long as the server answers such; else each goes into one of its own,
    some at once.
    """

    def __init__(self, url: str, policy: SourcePolicy, limits: SourceLimits | None = None) -> None:
        """Opens `url`, which `policy.check` has let through.

        Raises:
            SourceRefused: it, or a redirect, leads where the policy does not allow.
            SourceUnavailable: the server cannot be reached or does not deliver.
        """
        self.location = show_location(url)
        self.bytes_read = 0
        self._url = self._first_url = to_http(url)
        self._policy = policy
        self._limits = limits or SourceLimits()
        self._lock = threading.Lock()
        self._tail_lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._spool: Spool | None = None
        self._is_closed = False
        self._takes_ranges = self._limits.n_ranges > 1
        # The transport is used without a client: the environment's proxies would hide the address from the
        # check, and a client logs URLs with whatever secrets they hold.
        self._transport = CheckedTransport(policy.allowed_private_hosts, policy.grid)
        self._host = urlsplit(self._url).netloc.rpartition("@")[2]
        self._tail: Future[_Piece] | None = None
        try:
            if self._limits.tail_bytes and _from_end.get(self._host):
                # Beside its beginning: that saves to wait for one after the other.
                self._tail = self._pool().submit(self._fetch_tail)
            head = self._try_often(lambda end: self._fetch(0, _HEAD_BYTES, None, end), self._limits.open_s)
        except BaseException:
            self.close()
            raise
        if not head.is_whole:
            # A try before may have been answered with the whole file, and broken off.
            self._drop_spool()
        self._edges: dict[Block, bytes] = {(0, len(head.data)): head.data}
        self.size_bytes = head.size_bytes
        self._version = head.version
        if self._tail is None and len(head.data) < head.size_bytes and self._limits.tail_bytes:
            self._tail = self._pool().submit(self._find_tail)
            if self._host not in _from_end:
                self._pool().submit(self._try_from_end)
        digest = digest_url(url)
        self.identity = f"http:{digest}:{head.size_bytes}:{head.version}"
        # A weak tag, or a time of change in whole seconds, may stay when bytes change.
        self.fingerprint = f"http:{digest}:{head.size_bytes}:{head.tag}" if head.tag is not None else None

    def _fetch_tail(self) -> _Piece:
        """The end of the file, whose size is not known yet."""
        return self._fetch(-self._limits.tail_bytes, 0, None, time.monotonic() + self._limits.open_s)

    def _find_tail(self) -> _Piece:
        """The same, from a server of which it is not known whether it can count from the end."""
        start = max(0, self.size_bytes - self._limits.tail_bytes)
        return self._fetch(start, self.size_bytes, self.size_bytes, time.monotonic() + self._limits.open_s)

    def _try_from_end(self) -> None:
        """Asks for the last byte, to know next time."""
        try:
            self._fetch(-1, 0, None, time.monotonic() + self._limits.open_s)
        except SourceUnavailable:
            if not self._is_closed:  # else nobody was asked
                _from_end.put(self._host, value=False)
        except (ServicexError, PassingFault, httpx.HTTPError):
            return
        else:
            _from_end.put(self._host, value=True)

    def edges(self) -> dict[Block, bytes]:
        self._take_tail()
        return self._edges

    def _take_tail(self) -> None:
        """Waits for the end of the file, if it was asked for."""
        with self._tail_lock:
            tail, self._tail = self._tail, None
            if tail is None or self._spool is not None:
                return
            try:
                piece = tail.result()
            except CancelledError as error:
                raise self._closed() from error
            except (ServicexError, PassingFault, httpx.HTTPError):
                return  # whoever needs these bytes asks for them again
            if (piece.size_bytes, piece.version) == (self.size_bytes, self._version):
                # A new one, as other threads may be reading in the old.
                self._edges = {**self._edges, (piece.start, piece.start + len(piece.data)): piece.data}

    def read_ranges(self, wanted: Sequence[Block]) -> list[bytes]:
        ranges.check_within(wanted, self.size_bytes, self.location)
        tail = self.size_bytes - self._limits.tail_bytes
        if self._tail is not None and any(stop > tail for _, stop in wanted):
            self._take_tail()
        edges = self._edges
        blocks = ranges.coalesce(
            [place for place in wanted if place[0] < place[1] and not ranges.holds(edges, *place)],
            gap_bytes=self._limits.gap_bytes,
            most_bytes=self._limits.request_bytes,
        )
        fetched = edges | dict(zip(blocks, self._read_blocks(blocks), strict=True))
        return [ranges.cut(fetched, start, stop) for start, stop in wanted]

    def _read_blocks(self, blocks: list[Block]) -> list[bytes]:
        spool = self._spool
        if spool is not None:
            return [self._spooled(spool, start, stop) for start, stop in blocks]
        if len(blocks) > 1 and self._takes_ranges:
            try:
                batches = ranges.share(
                    blocks,
                    most_ranges=self._limits.n_ranges,
                    most_bytes=self._limits.request_bytes,
                    least_bytes=_BYTES_PER_CONNECTION,
                    n_shares=self._limits.n_connections,
                )
                return [data for batch in self._map(self._read_batch, batches) for data in batch]
            except _OneRangeOnly:
                self._takes_ranges = False
        return self._map(self._read_block, blocks)

    def _spooled(self, spool: Spool, start: int, stop: int) -> bytes:
        try:
            return spool.read(start, stop)
        except ValueError as error:
            raise self._closed() from error

    def _map(self, read: Callable[[P], T], places: Sequence[P]) -> list[T]:
        if len(places) < 2:
            return [read(place) for place in places]
        try:
            return list(self._pool().map(read, places))
        except (CancelledError, RuntimeError) as error:
            # Another thread has closed it, and the pool with it.
            if self._is_closed:
                raise self._closed() from error
            raise

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._is_closed:
                raise self._closed()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(
                    self._limits.n_connections, thread_name_prefix="http-range"
                )
            return self._threads

    def _read_batch(self, batch: list[Block]) -> list[bytes]:
        if len(batch) == 1:
            return [self._read_block(batch[0])]
        n_bytes = sum(stop - start for start, stop in batch)
        return self._try_often(lambda end: self._fetch_parts(batch, end), self._limits.read_s(n_bytes))

    def _read_block(self, block: Block) -> bytes:
        start, stop = block
        total_s = self._limits.read_s(stop - start)
        piece = self._try_often(lambda end: self._fetch(start, stop, self.size_bytes, end), total_s)
        if piece.size_bytes != self.size_bytes:
            raise self._changed()
        self._check_version(piece.version)
        return piece.data

    def _check_version(self, version: str) -> None:
        if version != self._version:
            raise self._changed()

    def _changed(self) -> SourceUnavailable:
        message = f"{self.location} changed while it was read"
        return SourceUnavailable(message)

    def _closed(self) -> SourceUnavailable:
        message = f"{self.location} is read no more"
        return SourceUnavailable(message)

    def _try_often(self, attempt: Callable[[float], T], total_s: float) -> T:
        def once(end: float) -> T:
            try:
                return attempt(end)
            except httpx.TimeoutException as error:
                self._url = self._first_url
                message = "the server does not answer in time"
                raise PassingFault(message) from error
            except httpx.TransportError as error:
                self._url = self._first_url
                raise PassingFault(str(error) or type(error).__name__) from error
            except PassingFault:
                self._url = self._first_url
                raise

        return try_often(once, self._limits, self.location, total_s)

    def _fetch(self, start: int, stop: int, size_bytes: int | None, end: float) -> _Piece:
        """One request for `[start, stop)`, or for the last `-start` bytes; redirects included."""
        asked = f"bytes={start}-{stop - 1}" if start >= 0 else f"bytes={start}"
        try:
            return self._fetch_range(asked, start, stop, size_bytes, end)
        except _BeyondEnd as answer:
            # XRootD 5.5 promises bytes beyond the end of a file, and cannot send them over TLS.
            size_bytes = answer.size_bytes
            return self._fetch_range(f"bytes={start}-{size_bytes - 1}", start, size_bytes, size_bytes, end)

    def _fetch_range(self, asked: str, start: int, stop: int, size_bytes: int | None, end: float) -> _Piece:
        with self._follow({"Range": asked}, end) as response:
            if response.status_code == 206:
                return self._read_part(response, start, stop, size_bytes, end)
            if response.status_code == 200 and size_bytes is None and start >= 0:
                return self._read_whole(response)
            if response.status_code == 416:
                message = f"{self.location} is an empty file, or shorter than when it was opened"
                raise SourceCorrupt(message)
            raise self._refusal(response)

    def _fetch_parts(self, batch: list[Block], end: float) -> list[bytes]:
        """One request for several ranges.

        Raises:
            _OneRangeOnly: the server does not answer such.
        """
        asked = ",".join(f"{start}-{stop - 1}" for start, stop in batch)
        with self._follow({"Range": f"bytes={asked}"}, end) as response:
            boundary = multipart.boundary_of(response.headers.get("content-type", ""))
            if response.status_code in _ONE_RANGE_ONLY or (response.status_code == 206 and boundary is None):
                raise _OneRangeOnly
            if response.status_code != 206 or boundary is None:
                raise self._refusal(response)
            self._check_version(_version(response))
            most_bytes = sum(stop - start + _PART_BYTES for start, stop in batch) + _PART_BYTES
            body = self._read_body(response, most_bytes, end)
        try:
            parts = multipart.parse_parts(body, boundary, self.size_bytes)
            return [ranges.cut(parts, start, stop) for start, stop in batch]
        except (ValueError, LookupError):
            raise _OneRangeOnly from None

    def _read_body(self, response: httpx.Response, most_bytes: int, end: float) -> bytes:
        length = response.headers.get("content-length", "")
        body = bytearray()
        for piece in self._pieces(response, end):
            body += piece
            if len(body) > most_bytes:
                raise _OneRangeOnly
        if length.isdigit() and len(body) != int(length):
            message = f"the answer ended after {len(body)} of {length} bytes"
            raise PassingFault(message)
        return bytes(body)

    @contextlib.contextmanager
    def _follow(self, headers: dict[str, str], end: float) -> Iterator[httpx.Response]:
        url = self._url
        is_straight = url != self._first_url
        for _hop in range(self._limits.n_redirects + 1):
            with contextlib.closing(self._send(url, headers, end)) as response:
                if response.status_code not in REDIRECTS or "location" not in response.headers:
                    if is_straight and response.status_code in _MOVED_ON:
                        # Whoever sent us there may know a better place by now.
                        message = (
                            f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
                        )
                        raise PassingFault(message)
                    if response.is_success:
                        # The next range goes straight there.
                        self._url = url
                    yield response
                    return
                is_straight = False
                url = redirected(url, response.headers["location"], self._policy, self.location)
        message = f"cannot read {self.location}: more than {self._limits.n_redirects} redirects"
        raise SourceUnavailable(message)

    def _send(self, url: str, headers: dict[str, str], end: float) -> httpx.Response:
        if self._is_closed:
            raise self._closed()
        left_s = max(0.001, end - time.monotonic())
        timeout = httpx.Timeout(min(self._limits.idle_s, left_s), connect=min(self._limits.connect_s, left_s))
        return self._transport.handle_request(make_request(url, headers, timeout, self._policy.grid))

    def _read_part(
        self, response: httpx.Response, start: int, stop: int, size_bytes: int | None, end: float
    ) -> _Piece:
        match = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or match.group(1) is None or not match.group(3).isdigit():
            message = f"{self.location}: the server's answer does not say which bytes it holds"
            raise SourceUnavailable(message)
        total = int(match.group(3))
        if start < 0:
            start, stop = max(0, total + start), total
        expected = min(stop, total if size_bytes is None else size_bytes)
        told = int(match.group(2)) + 1
        if size_bytes is None and told == stop > total:
            raise _BeyondEnd(total)
        if (int(match.group(1)), told) != (start, expected):
            message = f"{self.location}: the server sent other bytes than those asked for"
            raise SourceUnavailable(message)
        body = bytearray()
        for piece in self._pieces(response, end):
            body += piece
            if len(body) > expected - start:
                break
        if len(body) != expected - start:
            message = f"the answer ended after {len(body)} of {expected - start} bytes"
            raise PassingFault(message)
        return _Piece(start, bytes(body), total, _version(response), _strong_tag(response))

    def _read_whole(self, response: httpx.Response) -> _Piece:
        """Keeps a file from a server that does not serve ranges, if it is not too large."""
        bound = self._limits.spool_bytes
        length = response.headers.get("content-length", "")
        too_large = (
            f"{self.location}: the server does not serve byte ranges, and the file is larger than the "
            f"{bound} bytes that would be fetched whole"
        )
        if length.isdigit() and int(length) > bound:
            raise SourceUnavailable(too_large)
        with self._needing_room():
            spool = self._open_spool()
            spool.clear()
        size_bytes = 0
        end = time.monotonic() + self._limits.read_s(int(length) if length.isdigit() else bound)
        for piece in self._pieces(response, end):
            if size_bytes + len(piece) > bound:
                raise SourceUnavailable(too_large)
            with self._needing_room():
                spool.write(piece, size_bytes)
            size_bytes += len(piece)
        if length.isdigit() and size_bytes != int(length):
            message = f"the answer ended after {size_bytes} of {length} bytes"
            raise PassingFault(message)
        return _Piece(0, b"", size_bytes, _version(response), _strong_tag(response), is_whole=True)

    @contextlib.contextmanager
    def _needing_room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Another replica may be at a server that serves ranges, and need no room.
            message = (
                f"cannot read {self.location}: the server does not serve byte ranges, and the worker's disk "
                f"cannot take the whole file ({error.strerror})"
            )
            raise SpoolUnavailable(message) from error

    def _drop_spool(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def _open_spool(self) -> Spool:
        if self._spool is None:
            self._spool = Spool()
        return self._spool

    def _pieces(self, response: httpx.Response, end: float) -> Iterator[bytes]:
        if response.headers.get("content-encoding", "identity") != "identity":
            message = f"{self.location}: the server compresses what it was asked to send as it is"
            raise SourceUnavailable(message)
        for piece in response.iter_raw():
            with self._lock:
                self.bytes_read += len(piece)
            yield piece
            if time.monotonic() > end:
                message = "the answer takes too long"
                raise PassingFault(message)

    def _refusal(self, response: httpx.Response) -> Exception:
        status = response.status_code
        answer = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status in TRANSIENT:
            return PassingFault(answer, retry_after_s(response))
        message = f"cannot read {self.location}: {answer}"
        if status in (401, 403):
            shown, may_be_better_soon = self._explain_refusal()
            return (SourceUnavailable if may_be_better_soon else SourceRefused)(message + shown)
        return SourceUnavailable(message)

    def _explain_refusal(self) -> tuple[str, bool]:
        """What a host that knows us was shown; others would not have been shown anything."""
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if parts.scheme != "https" or not self._policy.grid.is_trusted(host):
            return "", False
        return explain_refusal(self._policy.grid, host)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            threads, self._threads = self._threads, None
        if threads is not None:
            # A silent server may be waited for by one of them, but not by whoever closes.
            threads.shutdown(wait=False, cancel_futures=True)
        self._drop_spool()


def to_http(url: str) -> str:
    """The URL as HTTP clients know it: `davs` is another name of https.

    >>> to_http("davs://host/x.root")
    'https://host/x.root'
    """
    return f"https{url[4:]}" if url[:5].lower() == "davs:" else url


def retry_after_s(response: httpx.Response) -> float:
    """How long the server wants to be left alone, within bounds; 0 if it does not say so in seconds."""
    after = response.headers.get("retry-after", "")
    return min(float(after), 30.0) if after.isascii() and after.isdigit() else 0.0


def _version(response: httpx.Response) -> str:
    tag = response.headers.get("etag") or response.headers.get("last-modified") or ""
    return str(tag).removeprefix("W/")


def _strong_tag(response: httpx.Response) -> str | None:
    """The tag that no other content of this URL has (RFC 9110, 8.8.3), if the server gives one."""
    tag = response.headers.get("etag", "")
    return str(tag) if _STRONG_TAG.fullmatch(tag) else None
