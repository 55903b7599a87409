"""An HTTP transport that connects only to addresses the policy lets through."""

from __future__ import annotations

import atexit
import contextlib
import functools
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpcore
import httpx

from servicex_server.errors import SourceUnavailable
from servicex_server.grid.access import NO_GRID_ACCESS, GridAccess
from servicex_server.grid.tls import trusted_context
from servicex_server.source import address

_MOST_IDLE = 16
"""Connections of one kind that are kept open for the next reader, and for how long."""
_IDLE_S = 30.0

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class CheckedBackend(httpcore.SyncBackend):
    """Resolves a host once, checks every answer, and connects to a checked address.

    The name is not looked up a second time, so it cannot point elsewhere by then. TLS still verifies the
    certificate against the name.
    """

    def __init__(self, allowed_private_hosts: tuple[str, ...]) -> None:
        self._allowed = allowed_private_hosts

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        last: Exception | None = None
        end = None if timeout is None else time.monotonic() + timeout
        for checked in address.resolve(host, port, self._allowed):
            left = None if end is None else max(0.001, end - time.monotonic())
            try:
                return super().connect_tcp(checked, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        if last is None:
            message = f"the host name {host!r} has no address"
            raise SourceUnavailable(message)
        raise last


class _Pools:
    """Connection pools of this process, so that who reads one file after another from a host connects once.

    A new connection costs one to three round trips before the first byte, more than a file's header does.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pools: OrderedDict[_Kind, httpcore.ConnectionPool] = OrderedDict()

    def get(self, kind: _Kind) -> httpcore.ConnectionPool:
        with self._lock:
            pool = self._pools.get(kind)
            if pool is None:
                pool = self._pools[kind] = _open_pool(kind)
                for other, old in self._pools.items():
                    if other is not kind and other.is_version_of(kind):
                        _drop_idle(old)
                if len(self._pools) > self._most:
                    # Whoever still reads through it keeps it alive; the idle ones nobody would come back to.
                    _drop_idle(self._pools.popitem(last=False)[1])
            self._pools.move_to_end(kind)
            return pool

    def close(self) -> None:
        with self._lock:
            while self._pools:
                self._pools.popitem()[1].close()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What connections have in common that one reader may take over from another.

    Attributes:
        allowed_private_hosts: by which their addresses were checked.
        grid: what they were shown; None for nothing.
        version: of the files that `grid` names: a connection shows for good what there was when it began.
    """

    allowed_private_hosts: tuple[str, ...]
    grid: GridAccess | None = None
    version: tuple[tuple[int, int, int] | None, ...] = ()

    def is_version_of(self, other: _Kind) -> bool:
        """Whether nothing but the content of the files is different."""
        return replace(self, version=other.version) == other


def _drop_idle(pool: httpcore.ConnectionPool) -> None:
    """Closes the connections that nobody reads from; if somebody just begins to, he tries again."""
    for connection in pool.connections:
        if connection.is_idle():
            connection.close()


_pools = _Pools(8)
atexit.register(_pools.close)


def _open_pool(kind: _Kind) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        ssl_context=_ssl_context() if kind.grid is None else trusted_context(kind.grid),
        # Readers bound themselves, and must not wait for connections that others have to a silent server.
        max_connections=None,
        max_keepalive_connections=_MOST_IDLE,
        keepalive_expiry=_IDLE_S,
        network_backend=CheckedBackend(kind.allowed_private_hosts),
    )


def _version_of(path: Path | None) -> tuple[int, int, int] | None:
    """Changes when the file, or what lies directly in the folder, does."""
    try:
        status = None if path is None else path.stat()
    except OSError:
        return None
    return None if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # Made once: to read the authorities' certificates takes as long as a round trip.
    return httpx.create_ssl_context()


class CheckedTransport(httpx.BaseTransport):
    """httpx on top of connections that are checked, and kept for whoever asks the same host next."""

    def __init__(self, allowed_private_hosts: tuple[str, ...], grid: GridAccess = NO_GRID_ACCESS) -> None:
        self._plain = _Kind(allowed_private_hosts)
        self._grid = grid

    def _kind(self, url: httpx.URL) -> _Kind:
        """Connections to hosts of the grid, which are shown the proxy, are kept apart from the others."""
        grid = self._grid
        if url.scheme != "https" or not grid.is_trusted(url.host):
            return self._plain
        version = (_version_of(grid.proxy_file), _version_of(grid.cert_dir))
        return _Kind(self._plain.allowed_private_hosts, grid, version)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.read(),
            extensions=request.extensions,
        )
        pool = _pools.get(self._kind(request.url))
        with _as_httpx():
            try:
                answer = pool.handle_request(asked)
            except (httpcore.NetworkError, httpcore.ProtocolError):
                # After a laptop's sleep, say, the others are as dead, and would cost an attempt each.
                _drop_idle(pool)
                raise
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Stream(answer),
            extensions=answer.extensions,
        )


class _Stream(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    """Turns httpcore's errors into the two kinds the caller tells apart."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.ReadTimeout(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise httpx.ReadError(str(error)) from error
