"""The embedded queue's socket: who may connect, what is refused, what a strange peer can cause."""

from __future__ import annotations

import asyncio
import socket
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from servicex_server.errors import ConfigurationError
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import FileFailed, Reason, TransformUnit
from servicex_server.queue.frame import MAX_FRAME_BYTES, read_frame
from servicex_server.queue.transports.embedded import EmbeddedQueue, connect, message
from servicex_server.queue.transports.embedded.address import dial


def transform(file: int = 1, selection: str = "", deadline_s: float = 600.0) -> TransformUnit:
    return TransformUnit(
        request_id=RequestId("r"),
        file_id=FileId(file),
        paths=("/data/a.root",),
        codegen="uproot",
        selection=selection,
        result_format=ResultFormat.PARQUET,
        store_key="r/1",
        deadline_s=deadline_s,
    )


@asynccontextmanager
async def raw(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that says what the test says."""
    reader, writer = await asyncio.open_unix_connection(sock=dial(path))
    try:
        yield reader, writer
    finally:
        writer.close()


async def failure_of(queue: EmbeddedQueue) -> tuple[Reason, str]:
    async with asyncio.timeout(20):
        delivery = await anext(queue.reports())
    assert isinstance(delivery.report, FileFailed)
    return delivery.report.failure.reason, delivery.report.failure.message


async def assert_usable(queue: EmbeddedQueue) -> None:
    """An honest worker still gets its work."""
    assert queue.n_slots == 0
    await queue.publish([transform(99)])
    async with asyncio.timeout(20), connect(queue.socket_path, 1) as source:
        assert (await anext(aiter(source.units()))).unit == transform(99)
        assert queue.n_slots == 1


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_socket_is_its_owner_s_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "run" / "queue.sock"
    async with EmbeddedQueue(path):
        assert (mode_of(path.parent), mode_of(path)) == (0o700, 0o600)
        assert [it.name for it in path.parent.iterdir()] == ["queue.sock"]
    assert list(path.parent.iterdir()) == []


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "queue.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with EmbeddedQueue(path) as queue:
        await assert_usable(queue)


async def test_a_second_server_is_refused_and_the_first_one_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "queue.sock"
    async with EmbeddedQueue(path) as queue:
        with pytest.raises(ConfigurationError, match=r"another server is running on .*queue\.sock"):
            await EmbeddedQueue(path).__aenter__()
        await assert_usable(queue)


async def test_a_file_in_the_socket_s_place_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "queue.sock"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists and is not a socket"):
        await EmbeddedQueue(path).__aenter__()
    assert path.read_text() == "precious"


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot listen on the socket .*file/queue\.sock"):
        await EmbeddedQueue(tmp_path / "file" / "queue.sock").__aenter__()


async def test_paths_longer_than_socket_addresses_work(tmp_path: Path) -> None:
    async with EmbeddedQueue(tmp_path / ("x" * 120) / ("y" * 120) / "queue.sock") as queue:
        await assert_usable(queue)


async def test_without_a_server_a_worker_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="no server listens on"):
        async with connect(tmp_path / "queue.sock", 1):
            pass


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack("!I", MAX_FRAME_BYTES + 1),
        struct.pack("!I", 3) + b"\xc1\xc1\xc1",
        struct.pack("!I", 7) + b"\x93\xa5\xffello",
        struct.pack("!I", 100_000) + b"\x91" * 100_000,
        message.pack(message.Heartbeat()),
        message.pack(message.Hello(message.VERSION + 1, 1)),
        message.pack(message.Hello(message.VERSION, 0)),
        message.pack(message.Hello(message.VERSION, message.MAX_SLOTS + 1)),
    ],
    ids=[
        "http",
        "oversized",
        "not msgpack",
        "not text",
        "bottomless",
        "no hello",
        "other version",
        "no slots",
        "too many slots",
    ],
)
async def test_a_peer_that_does_not_introduce_itself_is_turned_away(tmp_path: Path, said: bytes) -> None:
    async with EmbeddedQueue(tmp_path / "queue.sock") as queue:
        async with asyncio.timeout(20), raw(queue.socket_path) as (reader, writer):
            writer.write(said)
            assert await reader.read() == b""
        await assert_usable(queue)


@pytest.mark.parametrize(
    "said",
    [
        struct.pack("!I", MAX_FRAME_BYTES + 1),
        message.pack(message.Done(1, b"nonsense")),
        struct.pack("!I", 100) + b"cut",
    ],
    ids=["oversized", "no report", "cut"],
)
async def test_a_worker_that_talks_garbage_loses_its_units(tmp_path: Path, said: bytes) -> None:
    async with EmbeddedQueue(tmp_path / "queue.sock") as queue:
        await queue.publish([transform()])
        async with asyncio.timeout(20), raw(queue.socket_path) as (reader, writer):
            writer.write(message.pack(message.Hello(message.VERSION, 1)))
            await read_frame(reader)
            await read_frame(reader)
            writer.write(said)
            writer.write_eof()
            assert await reader.read() == b""
        assert await failure_of(queue) == (
            Reason.LOST,
            "the worker process died while working on this file",
        )
        await assert_usable(queue)


async def test_a_worker_that_falls_silent_loses_its_units(tmp_path: Path) -> None:
    async with EmbeddedQueue(tmp_path / "queue.sock", heartbeat_s=0.01, silence_s=0.05) as queue:
        await queue.publish([transform()])
        async with asyncio.timeout(20), raw(queue.socket_path) as (_, writer):
            writer.write(message.pack(message.Hello(message.VERSION, 1)))
            assert (await failure_of(queue))[0] is Reason.LOST


async def test_a_lease_far_past_its_deadline_is_lost_though_the_worker_lives(tmp_path: Path) -> None:
    async with EmbeddedQueue(tmp_path / "queue.sock", heartbeat_s=0.01, lease_grace_s=0.01) as queue:
        await queue.publish([transform(deadline_s=0.01)])
        async with connect(queue.socket_path, 1) as source:
            assert (await failure_of(queue))[0] is Reason.LOST
            async with asyncio.timeout(20):
                assert [unit async for unit in source.cancellations()] == []
            assert not source.is_connected


async def test_a_unit_with_broken_text_is_a_failure_and_not_an_accident(tmp_path: Path) -> None:
    async with EmbeddedQueue(tmp_path / "queue.sock") as queue, connect(queue.socket_path, 1):
        await queue.publish([transform(selection="\ud800")])
        reason, text = await failure_of(queue)
        assert reason is Reason.INTERNAL
        assert "cannot be encoded" in text


async def test_a_unit_too_large_for_the_wire_is_a_failure_and_not_a_loop(tmp_path: Path) -> None:
    async with EmbeddedQueue(tmp_path / "queue.sock") as queue, connect(queue.socket_path, 1):
        await queue.publish([transform(selection="x" * MAX_FRAME_BYTES)])
        reason, text = await failure_of(queue)
        assert reason is Reason.INTERNAL
        assert "larger than the allowed 16777216" in text
