"""`GET /metrics` on a port of its own: a tiny HTTP server that tells numbers and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from servicex_server.errors import ConfigurationError

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_HEAD_BYTES = 8192
_WITHIN_S = 5.0
_AT_ONCE = 16


@asynccontextmanager
async def serve_metrics(host: str, port: int, *, setting: str = "metrics_port") -> AsyncIterator[None]:
    """Answers on this address while the context lasts; port 0 answers nowhere.

    Args:
        host: address to listen on. Whoever reaches it may read the numbers.
        port: 0 for none.
        setting: name of the setting, for the message.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    if not port:
        yield
        return
    exposition = _Exposition(is_loopback=host in _LOOPBACK)
    try:
        server = await asyncio.start_server(exposition.serve, host, port, limit=_HEAD_BYTES)
    except (OSError, OverflowError) as error:
        message = f"cannot tell metrics on {host} port {port}: {error}; choose another with `{setting}`"
        raise ConfigurationError(message) from error
    logger.info("metrics.ready: http://%s:%d/metrics", f"[{host}]" if ":" in host else host, port)
    try:
        yield
    finally:
        server.close()
        await exposition.hang_up()


class _Exposition:
    """Answers connections, one request each."""

    def __init__(self, *, is_loopback: bool) -> None:
        self._is_loopback = is_loopback
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  asyncio runs connection handlers as tasks
        self._tasks.add(task)
        try:
            if len(self._tasks) > _AT_ONCE:
                return
            async with asyncio.timeout(_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_WITHIN_S):
                    await writer.wait_closed()

    async def hang_up(self) -> None:
        """Breaks off what is still going on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _answer(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        target = rest.partition(" ")[0].partition("?")[0]
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines[1:])
        }
        if self._is_loopback and not _is_local(headers.get("host", "")):
            # A page of elsewhere whose name points here.
            return _response("403 Forbidden", b"this host is not answered\n")
        if target != "/metrics":
            return _response("404 Not Found", b"there is /metrics only\n")
        if method != "GET":
            return _response("405 Method Not Allowed", b"GET it\n")
        from servicex_server.telemetry import metrics  # noqa: PLC0415  a start without metrics is quicker

        return _response("200 OK", metrics.render(), metrics.CONTENT_TYPE)


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    return name.strip("[]").lower() in _LOOPBACK


def _response(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
