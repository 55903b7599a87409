"""The port on which metrics are told: numbers, and nothing else for anybody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from servicex_server.errors import ConfigurationError
from servicex_server.telemetry.exposition import serve_metrics


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def port() -> AsyncIterator[int]:
    port = free_port()
    async with serve_metrics("127.0.0.1", port):
        yield port


async def ask(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def get(port: int, target: str = "/metrics", method: str = "GET", host: str = "127.0.0.1") -> bytes:
    return await ask(port, f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


async def test_numbers_in_the_text_format(port: int) -> None:
    head, _, body = (await get(port)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert b"# TYPE servicex_queue_waiting_units gauge" in body
    assert b"servicex_process_cpu_seconds_total" in body
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"200" in (await get(port, "/metrics?name=x")).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("target", "method", "host", "status"),
    [
        ("/", "GET", "localhost:1", b"404"),
        ("/metrics/x", "GET", "localhost", b"404"),
        ("/metrics", "POST", "[::1]:9000", b"405"),
        ("/metrics", "GET", "evil.example", b"403"),
        ("/metrics", "GET", "127.0.0.1.evil.example:80", b"403"),
        ("/metrics", "GET", "", b"403"),
    ],
)
async def test_nothing_else(port: int, target: str, method: str, host: str, status: bytes) -> None:
    assert (await get(port, target, method, host)).split(b" ")[1] == status


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n", b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000 + b"\r\n\r\n"]
)
async def test_what_is_no_request_gets_no_numbers(port: int, sent: bytes) -> None:
    assert b" 200 " not in await ask(port, sent)
    assert b" 200 " in await get(port)


async def test_a_port_that_is_taken_is_named(port: int) -> None:
    with pytest.raises(ConfigurationError, match=f"port {port}.*`metrics_port`"):
        async with serve_metrics("127.0.0.1", port):
            pass


async def test_port_zero_is_off_and_the_port_is_free_afterwards() -> None:
    async with serve_metrics("127.0.0.1", 0):
        pass
    port = free_port()
    for _ in range(2):
        async with serve_metrics("127.0.0.1", port):
            assert b" 200 " in await get(port)
