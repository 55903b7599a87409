"""A file behind root://, read through the optional XRootD client."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from servicex_server.errors import SourceRefused, SourceUnavailable
from servicex_server.grid.export import allowed_methods, export
from servicex_server.grid.identity import explain_refusal
from servicex_server.model.naming import show_location
from servicex_server.source import address, ranges
from servicex_server.source.access import digest_url, has_settled
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.url import Url, split_url

_PORT = 1094
_VECTOR_RANGES = 1024
"""Most ranges per vector read, and the most bytes per range: what servers of all versions take."""
_VECTOR_RANGE_BYTES = 2 * 1024 * 1024 - 16
_VECTOR_BYTES = 64 * 1024 * 1024
_NOT_AUTHORISED = (3010, 3030)
"""kXR_NotAuthorized and kXR_AuthFailed of the protocol."""
_AUTH_FAILED = 204
"""The client's own code for a server with whom no method of authentication works."""
_CLIENTS_PARAMETER = re.compile(r"[?&]xrd(cl)?\.", re.IGNORECASE)
"""Tells the client, not the server, what to do: which files to take for keys and tokens, say."""


class XrootdSource:
    """Vector reads over one connection.

    The client library resolves names and follows redirectors by itself. So the host is checked before it
    is told the URL, and the data server it ended at before the first byte is used.
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
        self._timeout_s = max(1, int(self._limits.idle_s))
        parts = split_url(url)
        self._host = parts.host
        address.resolve(parts.host, parts.port or _PORT, policy.allowed_private_hosts)
        export(policy.grid)
        client = load_client(self._limits)
        self._file = client.File()
        status, _ = self._file.open(
            _with_methods(parts, policy), timeout=max(1, int(self._limits.connect_s + self._limits.idle_s))
        )
        self._check_status("open", status)
        try:
            self._check_data_server()
            status, info = self._file.stat(timeout=self._timeout_s)
            self._check_status("stat", status)
        except BaseException:
            self.close()
            raise
        self.size_bytes = int(info.size)
        self.identity = f"root:{self.location}:{info.size}:{info.modtime}"
        # Of the whole URL: what follows its path may name a member of an archive.
        self.fingerprint = (
            f"root:{digest_url(str(parts))}:{info.size}:{info.modtime}" if has_settled(info.modtime) else None
        )

    def _check_data_server(self) -> None:
        server = str(self._file.get_property("DataServer") or "")
        host = server.rsplit("@", 1)[-1].rsplit(":", 1)[0] if server else ""
        if not host:
            message = f"{self.location}: the client does not tell which server it reads from"
            raise SourceRefused(message)
        address.resolve(host, _PORT, self._policy.allowed_private_hosts)

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        ranges.check_within(wanted, self.size_bytes, self.location)
        blocks = ranges.coalesce(
            [(start, stop) for start, stop in wanted if stop > start],
            gap_bytes=self._limits.gap_bytes,
            most_bytes=_VECTOR_RANGE_BYTES,
        )
        fetched: dict[tuple[int, int], bytes] = {}
        for batch in _batches(blocks):
            fetched.update(zip(batch, self._read_batch(batch), strict=True))
        return [ranges.cut(fetched, start, stop) for start, stop in wanted]

    def _read_batch(self, batch: list[tuple[int, int]]) -> list[bytes]:
        if len(batch) == 1:
            start, stop = batch[0]
            status, data = self._file.read(start, stop - start, timeout=self._timeout_s)
            answers = [data]
        else:
            chunks = [(start, stop - start) for start, stop in batch]
            status, info = self._file.vector_read(chunks=chunks, timeout=self._timeout_s)
            answers = [chunk.buffer for chunk in info.chunks] if status.ok else []
        self._check_status("read", status)
        for (start, stop), data in zip(batch, answers, strict=True):
            if len(data) != stop - start:
                message = f"{self.location}: the server sent {len(data)} of {stop - start} bytes"
                raise SourceUnavailable(message)
        self.bytes_read += sum(stop - start for start, stop in batch)
        return [bytes(data) for data in answers]

    def _check_status(self, verb: str, status: Any) -> None:
        if status.ok:
            return
        reason = str(status.message).strip() or f"error {status.code}"
        message = f"cannot {verb} {self.location}: {reason}"
        if status.errno in _NOT_AUTHORISED or status.code == _AUTH_FAILED:
            shown, may_be_better_soon = explain_refusal(self._policy.grid, self._host)
            raise (SourceUnavailable if may_be_better_soon else SourceRefused)(message + shown)
        raise SourceUnavailable(message)

    def close(self) -> None:
        if self._file.is_open():
            self._file.close(timeout=self._timeout_s)


def _with_methods(parts: Url, policy: SourcePolicy) -> str:
    """The URL, with the methods of authentication that the host may ask for."""
    methods = allowed_methods(policy.grid, parts.host)
    if methods is None:
        return str(parts)
    if _CLIENTS_PARAMETER.search(unquote(parts.rest)):
        message = f"{show_location(str(parts))}: parameters that begin with xrd. or xrdcl. are not allowed"
        raise SourceRefused(message)
    return f"{parts}{'&' if '?' in parts.rest else '?'}xrd.wantprot={methods}"


def _batches(blocks: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    batches: list[list[tuple[int, int]]] = []
    size_bytes = 0
    for start, stop in blocks:
        is_full = size_bytes + stop - start > _VECTOR_BYTES
        if not batches or is_full or len(batches[-1]) == _VECTOR_RANGES:
            batches.append([])
            size_bytes = 0
        batches[-1].append((start, stop))
        size_bytes += stop - start
    return batches


def load_client(limits: SourceLimits) -> Any:
    """The client library, with bounds on its patience. Raises SourceRefused if it is not installed."""
    try:
        client = importlib.import_module("XRootD.client")
    except ImportError as error:
        message = "root:// needs the XRootD client, not installed here: pip install 'servicex-server[xrootd]'"
        raise SourceRefused(message) from error
    # The client's own defaults wait for minutes.
    client.EnvPutInt("ConnectionWindow", max(1, int(limits.connect_s)))
    client.EnvPutInt("ConnectionRetry", max(1, limits.n_attempts - 1))
    client.EnvPutInt("RequestTimeout", max(1, int(limits.idle_s)))
    client.EnvPutInt("StreamTimeout", max(1, int(limits.idle_s)))
    return client
