"""A file behind http(s), read by ranges."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from servicex_server.errors import SourceCorrupt, SourceRefused, SourceUnavailable
from servicex_server.grid.identity import explain_refusal
from servicex_server.grid.token import find_authorization
from servicex_server.model.naming import show_location
from servicex_server.source import ranges
from servicex_server.source.access import digest_url
from servicex_server.source.policy import SourcePolicy, check_host
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.transport import CheckedTransport

log = logging.getLogger(__name__)

_HEAD_BYTES = 32 * 1024
"""The first request asks for so much: a file's header and directory usually lie within."""
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]+"')
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class _Retry(Exception):
    """The attempt failed in a way that another one may not."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one request brought.

    Attributes:
        size_bytes: of the whole file.
        version: the server's tag of the file's content.
        tag: that tag, if it is a strong one.
        is_whole: the server ignored the range; the body went to the spool.
    """

    data: bytes
    size_bytes: int
    version: str
    tag: str | None
    is_whole: bool = False


class HttpSource:
    """Keeps connections, follows a few redirects, tries again, and refuses private addresses."""

    def __init__(self, url: str, policy: SourcePolicy, limits: SourceLimits | None = None) -> None:
        """Opens `url`, which `policy.check` has let through.

        Raises:
            SourceRefused: it, or a redirect, leads where the policy does not allow.
            SourceUnavailable: the server cannot be reached or does not deliver.
        """
        self.location = show_location(url)
        self.bytes_read = 0
        self._url = self._first_url = url
        self._policy = policy
        self._limits = limits or SourceLimits()
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._spool: int | None = None
        timeout = httpx.Timeout(self._limits.idle_s, connect=self._limits.connect_s)
        self._timeout = timeout.as_dict()
        # The transport is used without a client: the environment's proxies would hide the address from the
        # check, and a client logs URLs with whatever secrets they hold.
        self._transport = CheckedTransport(
            policy.allowed_private_hosts, self._limits.n_connections, policy.grid
        )
        try:
            head = self._try_often(lambda: self._fetch(0, _HEAD_BYTES, None))
        except BaseException:
            self.close()
            raise
        self._head = head.data
        self.size_bytes = head.size_bytes
        self._version = head.version
        digest = digest_url(url)
        self.identity = f"http:{digest}:{head.size_bytes}:{head.version}"
        # A weak tag, or a time of change in whole seconds, may stay when bytes change.
        self.fingerprint = f"http:{digest}:{head.size_bytes}:{head.tag}" if head.tag is not None else None

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        ranges.check_within(wanted, self.size_bytes, self.location)
        blocks = ranges.coalesce(
            [(start, stop) for start, stop in wanted if stop > max(start, len(self._head))],
            gap_bytes=self._limits.gap_bytes,
            most_bytes=self._limits.request_bytes,
        )
        fetched = dict(zip(blocks, self._read_blocks(blocks), strict=True))
        fetched[0, len(self._head)] = self._head
        return [ranges.cut(fetched, start, stop) for start, stop in wanted]

    def _read_blocks(self, blocks: list[tuple[int, int]]) -> list[bytes]:
        if self._spool is not None:
            return [os.pread(self._spool, stop - start, start) for start, stop in blocks]
        if len(blocks) < 2:
            return [self._read_block(block) for block in blocks]
        with self._lock:
            if self._threads is None:
                name = "http-range"
                self._threads = ThreadPoolExecutor(self._limits.n_connections, thread_name_prefix=name)
            threads = self._threads
        return list(threads.map(self._read_block, blocks))

    def _read_block(self, block: tuple[int, int]) -> bytes:
        start, stop = block
        piece = self._try_often(lambda: self._fetch(start, stop, self.size_bytes))
        if piece.size_bytes != self.size_bytes or piece.version != self._version:
            message = f"{self.location} changed while it was read"
            raise SourceUnavailable(message)
        return piece.data

    def _try_often(self, attempt: Callable[[], _Piece]) -> _Piece:
        pause_s = self._limits.backoff_s
        for number in range(1, self._limits.n_attempts + 1):
            try:
                return attempt()
            except (_Retry, httpx.TransportError) as error:
                reason = str(error) or type(error).__name__
                if number == self._limits.n_attempts:
                    message = f"cannot read {self.location}: {reason} ({number} attempts)"
                    raise SourceUnavailable(message) from error
                after_s = error.after_s if isinstance(error, _Retry) else 0.0
                log.info("retrying %s after: %s", self.location, reason)
                # Spread out, so that many workers do not come back at once.
                time.sleep(max(after_s, pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 (not a secret)
                pause_s *= 2
                self._url = self._first_url
        message = f"cannot read {self.location}: no attempt is allowed"
        raise SourceUnavailable(message)

    def _fetch(self, start: int, stop: int, size_bytes: int | None) -> _Piece:
        """One request for `[start, stop)`, redirects included."""
        end = time.monotonic() + self._limits.request_s
        with self._follow({"Range": f"bytes={start}-{stop - 1}"}) as response:
            if response.status_code == 206:
                return self._read_part(response, start, stop, size_bytes, end)
            if response.status_code == 200 and size_bytes is None:
                return self._read_whole(response, end)
            if response.status_code == 416:
                message = f"{self.location} is an empty file, or shorter than when it was opened"
                raise SourceCorrupt(message)
            self._refuse_status(response)
        message = f"{self.location}: no answer"
        raise SourceUnavailable(message)

    @contextlib.contextmanager
    def _follow(self, headers: dict[str, str]) -> Iterator[httpx.Response]:
        url = self._url
        for _hop in range(self._limits.n_redirects + 1):
            with contextlib.closing(self._send(url, headers)) as response:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    # The next range goes straight there.
                    self._url = url
                    yield response
                    return
                url = self._redirected(url, response.headers["location"])
        message = f"cannot read {self.location}: more than {self._limits.n_redirects} redirects"
        raise SourceUnavailable(message)

    def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        headers = {**headers, "Accept-Encoding": "identity", "User-Agent": "servicex-server"}
        request = httpx.Request("GET", url, headers=headers, extensions={"timeout": self._timeout})
        token = find_authorization(self._policy.grid, url)
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        elif request.url.userinfo:
            auth = httpx.BasicAuth(request.url.username, request.url.password)
            request = next(auth.auth_flow(request))
        return self._transport.handle_request(request)

    def _redirected(self, url: str, target: str) -> str:
        following = urljoin(url, target)
        scheme = urlsplit(following).scheme
        if scheme not in ("http", "https"):
            target = show_location(following)
            message = f"{self.location} redirects to {target!r}; only http:// and https:// are followed"
            raise SourceRefused(message)
        if scheme == "http" and urlsplit(url).scheme == "https":
            message = f"{self.location} redirects from https to http, which is not followed"
            raise SourceRefused(message)
        check_host(self._policy, following)
        return following

    def _read_part(
        self, response: httpx.Response, start: int, stop: int, size_bytes: int | None, end: float
    ) -> _Piece:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or match.group(1) is None or not match.group(3).isdigit():
            message = f"{self.location}: the server's answer does not say which bytes it holds"
            raise SourceUnavailable(message)
        total = int(match.group(3))
        expected = min(stop, total if size_bytes is None else size_bytes)
        if (int(match.group(1)), int(match.group(2)) + 1) != (start, expected):
            message = f"{self.location}: the server sent other bytes than those asked for"
            raise SourceUnavailable(message)
        body = bytearray()
        for piece in self._pieces(response, end):
            body += piece
            if len(body) > expected - start:
                break
        if len(body) != expected - start:
            message = f"the answer ended after {len(body)} of {expected - start} bytes"
            raise _Retry(message)
        return _Piece(bytes(body), total, _version(response), _strong_tag(response))

    def _read_whole(self, response: httpx.Response, end: float) -> _Piece:
        """Keeps a file from a server that does not serve ranges, if it is not too large."""
        bound = self._limits.spool_bytes
        length = response.headers.get("content-length", "")
        too_large = (
            f"{self.location}: the server does not serve byte ranges, and the file is larger than the "
            f"{bound} bytes that would be fetched whole"
        )
        if length.isdigit() and int(length) > bound:
            raise SourceUnavailable(too_large)
        spool = self._open_spool()
        size_bytes = 0
        os.ftruncate(spool, 0)
        for piece in self._pieces(response, end):
            if size_bytes + len(piece) > bound:
                raise SourceUnavailable(too_large)
            os.pwrite(spool, piece, size_bytes)
            size_bytes += len(piece)
        if length.isdigit() and size_bytes != int(length):
            message = f"the answer ended after {size_bytes} of {length} bytes"
            raise _Retry(message)
        return _Piece(b"", size_bytes, _version(response), _strong_tag(response), is_whole=True)

    def _open_spool(self) -> int:
        if self._spool is None:
            descriptor, path = tempfile.mkstemp(prefix="servicex-spool-")
            # Without a name it goes away with the process, whatever happens.
            Path(path).unlink()
            self._spool = descriptor
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
                message = f"the answer took longer than {self._limits.request_s:g} s"
                raise _Retry(message)

    def _refuse_status(self, response: httpx.Response) -> None:
        status = response.status_code
        answer = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status in _TRANSIENT:
            after = response.headers.get("retry-after", "")
            raise _Retry(answer, min(float(after), 30.0) if after.isdigit() else 0.0)
        message = f"cannot read {self.location}: {answer}"
        if status in (401, 403):
            shown, may_be_better_soon = self._explain_refusal()
            raise (SourceUnavailable if may_be_better_soon else SourceRefused)(message + shown)
        raise SourceUnavailable(message)

    def _explain_refusal(self) -> tuple[str, bool]:
        """What a host that knows us was shown; others would not have been shown anything."""
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if parts.scheme != "https" or not self._policy.grid.is_trusted(host):
            return "", False
        return explain_refusal(self._policy.grid, host)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        self._transport.close()
        spool, self._spool = self._spool, None
        if spool is not None:
            os.close(spool)


def _version(response: httpx.Response) -> str:
    tag = response.headers.get("etag") or response.headers.get("last-modified") or ""
    return str(tag).removeprefix("W/")


def _strong_tag(response: httpx.Response) -> str | None:
    """The tag that no other content of this URL has (RFC 9110, 8.8.3), if the server gives one."""
    tag = response.headers.get("etag", "")
    return str(tag) if _STRONG_TAG.fullmatch(tag) else None
