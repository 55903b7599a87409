"""A file behind root:// or roots://, read through the optional XRootD client."""

from __future__ import annotations

import importlib
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from servicex_server.errors import SiteUnavailable, SourceRefused, SourceUnavailable
from servicex_server.grid.export import allowed_methods, export
from servicex_server.grid.identity import explain_refusal
from servicex_server.model.naming import show_location
from servicex_server.source import address, ranges
from servicex_server.source.access import digest_url, has_settled
from servicex_server.source.patience import PassingFault, try_often
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.url import Url, split_url

Block = tuple[int, int]

_PORT = 1094
_HEAD_BYTES = 64 * 1024
_VECTOR_RANGES = 1024
"""Most ranges per vector read, and the most bytes per range: what servers of all versions take."""
_VECTOR_RANGE_BYTES = 2 * 1024 * 1024 - 16
_NOT_AUTHORISED = (3010, 3030)
"""kXR_NotAuthorized and kXR_AuthFailed of the protocol."""
_AUTH_FAILED = 204
"""The client's own code for a server with whom no method of authentication works."""
_TIME_IS_UP = (103, 206)
"""The client's own codes for a server that was silent for as long as it may be."""
_CLIENTS_PARAMETER = re.compile(r"[?&]xrd(cl)?\.", re.IGNORECASE)
"""Tells the client, not the server, what to do: which files to take for keys and tokens, say."""
_TOO_MUCH = (3000, 3002, 3013)
"""kXR_ArgInvalid, kXR_ArgTooLong and kXR_Unsupported: what servers say to more ranges than they take."""
_SERVERS_ANSWER = 400
"""The client's code for an error that the server answered with, as against those of the connection."""
_CLOSE_S = 5


class XrootdSource:
    """Vector reads over one connection, some at once; any thread may ask.

    The client library resolves names and follows redirectors by itself. So the host is checked before it
    is told the URL, and the data server it ended at before the first byte is used. Nothing waits for the
    library without end: it counts time in whole seconds, and not in all of its states.
    """

    def __init__(self, url: str, policy: SourcePolicy, limits: SourceLimits | None = None) -> None:
        """Opens `url`, which `policy.check` has let through.

        Raises:
            SourceRefused: the client is not installed, or a host on the way is not allowed.
            SourceUnavailable: the file cannot be opened.
        """
        self.location = show_location(url)
        self.bytes_read = 0
        self._policy = policy
        self._limits = limits or SourceLimits()
        self._lock = threading.Lock()
        self._most_ranges = _VECTOR_RANGES
        self._edges: dict[Block, bytes] = {}
        self._file: Any = None
        parts = split_url(url)
        self._host = parts.host
        address.resolve(parts.host, parts.port or _PORT, policy.allowed_private_hosts)
        self._digest = digest_url(str(parts))
        export(policy.grid)
        client = load_client(self._limits)
        try:
            try_often(
                lambda end: self._open(client, with_methods(parts, policy), end),
                self._limits,
                self.location,
                self._limits.open_s,
            )
            self._check_data_server()
            self._read_edges()
        except BaseException:
            self.close()
            raise

    def _open(self, client: Any, url: str, end: float) -> None:
        self._file = client.File()
        left_s = min(end - time.monotonic(), self._limits.connect_s + self._limits.idle_s)
        self._wait("open", self._begin(self._file.open, url, seconds=left_s))
        # Without another request: the server told it when the file was opened.
        info = self._wait("stat", self._begin(self._file.stat, seconds=self._limits.idle_s))
        self.size_bytes = int(info.size)
        self.identity = f"root:{self.location}:{info.size}:{info.modtime}"
        # Of the whole URL: what follows its path may name a member of an archive.
        self.fingerprint = (
            f"root:{self._digest}:{info.size}:{info.modtime}" if has_settled(info.modtime) else None
        )

    def _check_data_server(self) -> None:
        server = str(self._file.get_property("DataServer") or "")
        host = server.rsplit("@", 1)[-1].rsplit(":", 1)[0] if server else ""
        if not host:
            message = f"{self.location}: the client does not tell which server it reads from"
            raise SourceRefused(message)
        address.resolve(host, _PORT, self._policy.allowed_private_hosts)

    def _read_edges(self) -> None:
        """Fetches the beginning and the end of the file, where its directory is, in one request."""
        if not self._limits.tail_bytes:
            return
        tail = max(0, self.size_bytes - self._limits.tail_bytes)
        blocks = ranges.coalesce(
            [(0, min(_HEAD_BYTES, self.size_bytes)), (tail, self.size_bytes)],
            gap_bytes=0,
            most_bytes=_VECTOR_RANGE_BYTES,
        )
        self._edges = dict(zip(blocks, self._read_blocks(blocks), strict=True))

    def edges(self) -> dict[Block, bytes]:
        return self._edges

    def read_ranges(self, wanted: Sequence[Block]) -> list[bytes]:
        ranges.check_within(wanted, self.size_bytes, self.location)
        blocks = ranges.coalesce(
            [place for place in wanted if place[0] < place[1] and not ranges.holds(self._edges, *place)],
            gap_bytes=self._limits.gap_bytes,
            most_bytes=_VECTOR_RANGE_BYTES,
        )
        fetched = self._edges | dict(zip(blocks, self._read_blocks(blocks), strict=True))
        return [ranges.cut(fetched, start, stop) for start, stop in wanted]

    def _read_blocks(self, blocks: list[Block]) -> list[bytes]:
        """The bytes of each block. Some requests are under way at once, so that few wait for others."""
        waiting = deque(self._batches(blocks))
        pending: deque[tuple[list[Block], _Answer]] = deque()
        found: dict[Block, bytes] = {}
        while waiting or pending:
            while waiting and len(pending) < self._limits.n_connections:
                batch = waiting.popleft()
                pending.append((batch, self._ask_for(batch)))
            batch, answer = pending.popleft()
            try:
                found.update(zip(batch, self._take(batch, answer), strict=True))
            except _TooMany:
                self._most_ranges = max(1, len(batch) // 4)
                waiting.extend(self._batches(batch))
            except PassingFault as fault:
                message = f"cannot read {self.location}: {fault}"
                raise SiteUnavailable(message) from fault
        return [found[block] for block in blocks]

    def _batches(self, blocks: list[Block]) -> list[list[Block]]:
        return ranges.share(
            blocks,
            most_ranges=self._most_ranges,
            most_bytes=self._limits.request_bytes,
            least_bytes=_VECTOR_RANGE_BYTES,
            n_shares=self._limits.n_connections,
        )

    def _ask_for(self, batch: list[Block]) -> _Answer:
        seconds = self._limits.read_s(sum(stop - start for start, stop in batch))
        if len(batch) == 1:
            start, stop = batch[0]
            return self._begin(self._file.read, start, stop - start, seconds=seconds)
        chunks = [(start, stop - start) for start, stop in batch]
        return self._begin(self._file.vector_read, chunks, seconds=seconds)

    def _take(self, batch: list[Block], answer: _Answer) -> list[bytes]:
        is_single = len(batch) == 1
        response = self._wait("read", answer, has_many=not is_single)
        pieces = [response] if is_single else [chunk.buffer for chunk in response.chunks]
        for (start, stop), data in zip(batch, pieces, strict=True):
            if len(data) != stop - start:
                message = f"{self.location}: the server sent {len(data)} of {stop - start} bytes"
                raise SiteUnavailable(message)
        with self._lock:
            self.bytes_read += sum(stop - start for start, stop in batch)
        return [bytes(data) for data in pieces]

    def _begin(self, call: Callable[..., Any], *arguments: object, seconds: float) -> _Answer:
        answer = _Answer(time.monotonic() + seconds, self._file)
        try:
            status = call(*arguments, timeout=max(1, math.ceil(seconds)), callback=answer.take)
        except ValueError as error:  # the file is closed, by another thread say
            message = f"{self.location} is read no more"
            raise SourceUnavailable(message) from error
        if not status.ok:
            answer.take(status, None, None)
        return answer

    def _wait(self, verb: str, answer: _Answer, *, has_many: bool = False) -> Any:
        """The response.

        Raises:
            PassingFault: the server is silent, or the connection broke.
            SourceRefused, SourceUnavailable: the server said no.
            _TooMany: there were too many ranges in one request.
        """
        if not answer.is_there.wait(max(0.0, answer.end - time.monotonic())):
            message = f"the server does not answer in time ({verb})"
            raise PassingFault(message)
        status = answer.status
        if status.ok:
            return answer.response
        reason = str(status.message).strip() or f"error {status.code}"
        is_refusal = status.errno in _NOT_AUTHORISED or status.code == _AUTH_FAILED
        if status.code in _TIME_IS_UP:
            # The client's own clock was faster than ours.
            message = f"the server does not answer in time ({verb})"
            raise PassingFault(message)
        if status.code != _SERVERS_ANSWER and not is_refusal:
            raise PassingFault(reason)
        if has_many and status.errno in _TOO_MUCH:
            raise _TooMany
        message = f"cannot {verb} {self.location}: {reason}"
        if is_refusal:
            shown, may_be_better_soon = explain_refusal(self._policy.grid, self._host)
            raise (SourceUnavailable if may_be_better_soon else SourceRefused)(message + shown)
        raise SourceUnavailable(message)

    def close(self) -> None:
        file = self._file
        if file is not None and file.is_open():
            # Nobody waits for a server to hear that it is no longer needed; the answer keeps the file alive.
            file.close(timeout=_CLOSE_S, callback=_Answer(0.0, file).take)


def with_methods(parts: Url, policy: SourcePolicy, door: str | None = None) -> str:
    """The URL, with the methods of authentication that the host may ask for.

    A door is trusted with the servers that it sends us on to: they may ask for what it may.

    Every URL that the client connects to has to pass here, after `export`: it shows what it finds otherwise.
    """
    methods = allowed_methods(policy.grid, door or parts.host)
    if methods is None:
        return str(parts)
    if _CLIENTS_PARAMETER.search(unquote(parts.rest)):
        message = f"{show_location(str(parts))}: parameters that begin with xrd. or xrdcl. are not allowed"
        raise SourceRefused(message)
    return f"{parts}{'&' if '?' in parts.rest else '?'}xrd.wantprot={methods}"


class _TooMany(Exception):
    """The server does not take so many ranges in one request."""


@dataclass(slots=True)
class _Answer:
    """What the client library will say to one request.

    Attributes:
        end: when to stop waiting, on the monotonic clock.
        file: kept while its request is under way.
    """

    end: float
    file: Any
    status: Any = None
    response: Any = None
    is_there: threading.Event = field(default_factory=threading.Event)

    def take(self, status: Any, response: Any, _hosts: Any) -> None:
        self.status, self.response = status, response
        self.is_there.set()


def load_client(limits: SourceLimits) -> Any:
    """The client library, with bounds on its patience. Raises SourceRefused if it is not installed."""
    try:
        client = importlib.import_module("XRootD.client")
    except ImportError as error:
        message = "root:// needs the XRootD client, not installed here: pip install 'servicex-server[xrootd]'"
        raise SourceRefused(message) from error
    # The client's own defaults wait for minutes, and look at the clock every 15 s.
    client.EnvPutInt("ConnectionWindow", max(1, int(limits.connect_s)))
    client.EnvPutInt("ConnectionRetry", max(1, limits.n_attempts - 1))
    client.EnvPutInt("RequestTimeout", max(1, int(limits.idle_s)))
    client.EnvPutInt("StreamTimeout", max(1, int(limits.idle_s)))
    client.EnvPutInt("TimeoutResolution", 1)
    # It would not connect to a site again for half an hour after a fault.
    client.EnvPutInt("StreamErrorWindow", 1)
    return client
