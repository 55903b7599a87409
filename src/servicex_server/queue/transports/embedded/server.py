"""The server's side of the embedded queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Unit
from servicex_server.queue.codec import decode_report, encode_unit
from servicex_server.queue.desk import DEFAULT_MAX_REPORTS, DEFAULT_MAX_UNITS, LeaseDesk, Session
from servicex_server.queue.frame import FrameError, decode, read_frame
from servicex_server.queue.outbox import ReportInHand
from servicex_server.queue.transports.embedded import message
from servicex_server.queue.transports.embedded.address import identity, is_ours, listen
from servicex_server.telemetry.metrics import watch_queue

logger = logging.getLogger(__name__)

_MAX_UNREAD_BYTES = 64 * 1024 * 1024
"""What a worker may leave unread before it is cut off; leases are few, so an honest one stays far below."""

_HELLO_TIMEOUT_S = 10.0


class EmbeddedQueue:
    """A `Queue` whose workers connect to a Unix socket.

    Args:
        socket_path: where to listen; the folder is made (mode 0700) if it is missing.
        max_units: bound on waiting units; above it `publish` raises Busy.
        max_reports: no unit is leased while that many reports are unacknowledged.
        heartbeat_s: how often workers say that they live.
        silence_s: a worker from which nothing was heard for so long is treated as gone.
        lease_grace_s: the same for one that keeps a unit so long past its deadline.
    """

    def __init__(
        self,
        socket_path: Path,
        *,
        max_units: int = DEFAULT_MAX_UNITS,
        max_reports: int = DEFAULT_MAX_REPORTS,
        heartbeat_s: float = 5.0,
        silence_s: float = 60.0,
        lease_grace_s: float = 30.0,
    ) -> None:
        self.socket_path = socket_path
        self._desk = LeaseDesk(max_units=max_units, max_reports=max_reports)
        self._heartbeat_s = heartbeat_s
        self._silence_s = silence_s
        self._lease_grace_s = lease_grace_s
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts to listen; raises ConfigurationError if the path cannot be used."""
        listener = listen(self.socket_path)
        self._exits.callback(self._remove_socket, identity(self.socket_path))
        server = await asyncio.start_unix_server(self._serve, sock=listener)
        self._exits.push_async_callback(self._hang_up)
        self._exits.callback(server.close)
        self._exits.enter_context(
            watch_queue(
                waiting=lambda: self._desk.n_waiting,
                leased=lambda: self._desk.n_leased,
                slots=lambda: self._desk.n_slots,
                reports=lambda: len(self._desk.outbox),
            )
        )
        watch = asyncio.create_task(self._watch())
        self._exits.callback(watch.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._desk.close()
        await self._exits.aclose()

    @property
    def n_slots(self) -> int:
        """How many units the connected workers can work on at once; 0 tells that nothing will be done."""
        return self._desk.n_slots

    async def publish(self, units: Sequence[Unit]) -> None:
        self._desk.publish(units)

    async def cancel(self, request_id: RequestId) -> None:
        self._desk.cancel(request_id)

    def reports(self) -> AsyncIterator[ReportInHand]:
        return self._desk.outbox.deliveries()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs connection handlers as tasks
        self._connections[task] = writer
        try:
            await self._converse(reader, writer)
        except FrameError as error:
            logger.warning("worker.refused: sent something that is not our protocol: %s", error)
        except TimeoutError:
            logger.warning("worker.refused: did not introduce itself within %.0f s", _HELLO_TIMEOUT_S)
        except OSError as error:
            logger.info("worker.disconnected: %s", error)
        finally:
            writer.close()
            del self._connections[task]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_ours(writer.get_extra_info("socket")):
            logger.warning("worker.refused: it belongs to another user")
            return
        async with asyncio.timeout(_HELLO_TIMEOUT_S):
            frame = await read_frame(reader)
        if frame is None:
            return
        hello = decode(message.from_worker, frame)
        if not isinstance(hello, message.Hello) or hello.version != message.VERSION:
            logger.warning("worker.refused: it speaks another version of the protocol; restart it")
            return
        outlet = _SocketOutlet(writer)
        outlet.send(message.Welcome(self._heartbeat_s))
        session = self._desk.attach(outlet, hello.slots)
        logger.info("worker.connected: %d slots", hello.slots)
        try:
            while (frame := await read_frame(reader)) is not None:
                self._desk.heard(session)
                self._take(session, decode(message.from_worker, frame))
        finally:
            self._desk.detach(session)
            logger.info("worker.disconnected")

    def _take(self, session: Session, said: message.FromWorker) -> None:
        match said:
            case message.Done(number, report):
                self._desk.done(session, number, decode_report(report))
            case message.Release(number):
                self._desk.release(session, number)
            case message.Drain():
                self._desk.drain(session)
            case message.Heartbeat() | message.Hello():
                pass

    async def _watch(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(self._heartbeat_s)
            now = time.monotonic()
            # Bounded: after a stop of this process the workers get the chance to be heard.
            elapsed = min(now - before, 2 * self._heartbeat_s)
            before = now
            self._desk.pass_time(elapsed, silence_s=self._silence_s, grace_s=self._lease_grace_s)

    async def _hang_up(self) -> None:
        tasks = dict(self._connections)
        for writer in tasks.values():
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks)

    def _remove_socket(self, ours: tuple[int, int] | None) -> None:
        if ours is not None and identity(self.socket_path) == ours:
            with suppress(OSError):
                self.socket_path.unlink()


class _SocketOutlet:
    """The desk's way to one worker."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def lease(self, number: int, unit: Unit) -> None:
        self.send(message.Lease(number, encode_unit(unit)))

    def confirm(self, number: int) -> None:
        self.send(message.Confirm(number))

    def cancel(self, request_id: RequestId) -> None:
        self.send(message.Cancel(request_id))

    def drop(self) -> None:
        self._writer.transport.abort()

    def send(self, said: message.FromServer) -> None:
        frame = message.pack(said)
        transport = self._writer.transport
        if transport.is_closing():
            return  # the connection's task will detach the session
        if transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            logger.warning("worker.refused: it does not read what it is sent")
            transport.abort()
            return
        self._writer.write(frame)
