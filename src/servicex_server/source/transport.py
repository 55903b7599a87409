"""An HTTP transport that connects only to addresses the policy lets through."""

from __future__ import annotations

import contextlib
import functools
import ssl
import threading
import time
from collections.abc import Iterable, Iterator

import httpcore
import httpx

from servicex_server.errors import SourceUnavailable
from servicex_server.grid.access import NO_GRID_ACCESS, GridAccess
from servicex_server.grid.tls import trusted_context
from servicex_server.source import address

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


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # Made once: to read the authorities' certificates takes as long as a round trip.
    return httpx.create_ssl_context()


class CheckedTransport(httpx.BaseTransport):
    """httpx on top of a connection pool whose connections are checked."""

    def __init__(
        self, allowed_private_hosts: tuple[str, ...], n_connections: int, grid: GridAccess = NO_GRID_ACCESS
    ) -> None:
        self._allowed_private_hosts = allowed_private_hosts
        self._n_connections = n_connections
        self._grid = grid
        self._lock = threading.Lock()
        self._plain: httpcore.ConnectionPool | None = None
        self._trusted: httpcore.ConnectionPool | None = None

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        """Connections to hosts of the grid, which are shown the proxy, are kept apart from the others."""
        with self._lock:
            if url.scheme == "https" and self._grid.is_trusted(url.host):
                if self._trusted is None:
                    self._trusted = self._open_pool(trusted_context(self._grid))
                return self._trusted
            if self._plain is None:
                self._plain = self._open_pool(_ssl_context())
            return self._plain

    def _open_pool(self, context: ssl.SSLContext) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=self._n_connections,
            keepalive_expiry=30.0,
            network_backend=CheckedBackend(self._allowed_private_hosts),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _as_httpx():
            answer = self._pool(request.url).handle_request(
                httpcore.Request(
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
            )
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Stream(answer),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        for pool in (self._plain, self._trusted):
            if pool is not None:
                pool.close()


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
