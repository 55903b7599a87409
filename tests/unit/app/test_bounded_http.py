"""What a client may send as the head of a request, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from servicex_server.app.bounded import MAX_HEAD_BYTES, BoundedHttp

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def tell_size(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = f"{len(scope['headers'])} headers, {size} bytes".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """Tells when it is up, and leaves the tests' signals alone."""

    def __init__(self) -> None:
        super().__init__(
            uvicorn.Config(
                tell_size,
                http=BoundedHttp,
                ws="none",
                log_config=None,
                lifespan="off",
                host="127.0.0.1",
                port=0,
            )
        )
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = Server()
    serving = asyncio.create_task(server.serve())
    await server.is_up.wait()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def ask(port: int, *pieces: bytes) -> bytes:
    """What comes back until the server closes, or has answered whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.read(1000)
    except ConnectionError:
        return b"cut off"
    finally:
        writer.close()


def is_refused(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 400 ") or answer == b"cut off"


async def test_usual_requests_pass(port: int) -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 1000) for n in range(50))
    answer = await ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert answer.endswith(b"51 headers, 0 bytes")
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
    assert (await ask(port, head, bytes(3_000_000))).endswith(b"2 headers, 3000000 bytes")
    chunk = b"186a0\r\n" + bytes(100_000) + b"\r\n"
    assert (await ask(port, CHUNKED, chunk * 20, b"0\r\n\r\n")).endswith(b"2 headers, 2000000 bytes")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /", b"x" * 70_000, b" HTTP/1.1\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n", *[b"X-Y: %s\r\n" % (b"v" * 7_000)] * 10, b"\r\n"],
        [b"GET / HTTP/1.1\r\nX: ", *[b"v" * 10_000] * 100],
        [b"GET / HTTP/1.1\r\n", *[b"v" * 10_000] * 100],
        [CHUNKED, b"0\r\n", *[b"X-Y: %s\r\n" % (b"v" * 7_000)] * 10, b"\r\n"],
        [CHUNKED, b"0\r\nX: ", *[b"v" * 10_000] * 100],
    ],
    ids=["target", "headers", "endless value", "endless name", "trailers", "endless trailer"],
)
async def test_what_is_too_large_is_refused(port: int, pieces: list[bytes]) -> None:
    assert sum(map(len, pieces)) > MAX_HEAD_BYTES
    assert is_refused(await ask(port, *pieces))


async def test_heads_of_a_connection_are_counted_one_by_one(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(10):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"v" * 20_000))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(18) == b"2 headers, 0 bytes"
    writer.close()
