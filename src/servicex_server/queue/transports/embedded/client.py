"""The worker's side of the embedded queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Report
from servicex_server.queue.codec import decode_unit, encode_report
from servicex_server.queue.frame import FrameError, decode, read_frame
from servicex_server.queue.inbox import Inbox
from servicex_server.queue.transports.embedded import message
from servicex_server.queue.transports.embedded.address import dial

logger = logging.getLogger(__name__)

_WELCOME_TIMEOUT_S = 30.0


@asynccontextmanager
async def connect(socket_path: Path, slots: int) -> AsyncIterator[Inbox]:
    """A `WorkSource` with that many slots, connected to the server at `socket_path`.

    It does not reconnect: when the server goes, `units()` ends. Its successor starts its own workers.

    Raises:
        ConnectionError: no server listens there, or it turned this worker away.
    """
    reader, writer = await _dial(socket_path)
    try:
        heartbeat_s = await _introduce(reader, writer, slots)
        uplink = _SocketUplink(writer)
        inbox = Inbox(uplink)
        tasks = [asyncio.create_task(_listen(reader, inbox)), asyncio.create_task(_beat(uplink, heartbeat_s))]
        try:
            yield inbox
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            inbox.gone()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _dial(socket_path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(sock=dial(socket_path))
    except OSError as error:
        text = f"no server listens on {socket_path}: {error.strerror or error}"
        raise ConnectionError(text) from error


async def _introduce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slots: int) -> float:
    """Says hello; returns how often the server wants to hear a heartbeat."""
    writer.write(message.pack(message.Hello(message.VERSION, slots)))
    try:
        async with asyncio.timeout(_WELCOME_TIMEOUT_S):
            frame = await read_frame(reader)
    except TimeoutError:
        frame = None
    try:
        welcome = decode(message.from_server, frame) if frame is not None else None
    except FrameError:
        welcome = None
    if not isinstance(welcome, message.Welcome):
        text = "the server turned this worker away; its log says why"
        raise ConnectionError(text)
    return welcome.heartbeat_s


async def _listen(reader: asyncio.StreamReader, inbox: Inbox) -> None:
    try:
        while (frame := await read_frame(reader)) is not None:
            match decode(message.from_server, frame):
                case message.Lease(number, unit):
                    inbox.leased(number, decode_unit(unit))
                case message.Confirm(number):
                    inbox.confirmed(number)
                case message.Cancel(request_id):
                    inbox.canceled(RequestId(request_id))
                case message.Welcome():
                    pass
    except FrameError:
        logger.exception("queue.garbled: the server sent something that is not our protocol")
    finally:
        inbox.gone()


async def _beat(uplink: _SocketUplink, heartbeat_s: float) -> None:
    while True:
        await asyncio.sleep(heartbeat_s)
        uplink.heartbeat()


class _SocketUplink:
    """The inbox's way to the server; once the connection is lost, writes go nowhere."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def done(self, number: int, report: Report) -> None:
        self._send(message.Done(number, encode_report(report)))

    def release(self, number: int) -> None:
        self._send(message.Release(number))

    def drain(self) -> None:
        self._send(message.Drain())

    def heartbeat(self) -> None:
        self._send(message.Heartbeat())

    async def flush(self) -> None:
        with suppress(ConnectionError):
            await self._writer.drain()

    def _send(self, said: message.FromWorker) -> None:
        if not self._writer.transport.is_closing():
            self._writer.write(message.pack(said))
