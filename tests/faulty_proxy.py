"""A TCP proxy on 127.0.0.1 that counts, and on demand delays, throttles, stalls, cuts or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_PIECE_BYTES = 64 * 1024


@dataclass
class FaultyProxy:
    """What passes between its clients and a server, and how; may be changed while it runs.

    Attributes:
        port: where it listens.
        target_port: of the server behind it, on 127.0.0.1.
        delay_s: added to the way there and to the way back, half each, without limiting the rate.
        bytes_per_s: bound on the rate of answers, per connection.
        stall_after: answers stop, but the connection stays, once so many bytes of them passed in all.
        cut_after: the connection is closed instead.
        n_connections: that were made.
        n_turns: how often a client asked something after it had heard something, that is round trips.
        bytes_down: of all answers.
    """

    target_port: int
    port: int = 0
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    stall_after: int | None = None
    cut_after: int | None = None
    n_connections: int = 0
    n_turns: int = 0
    bytes_down: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop, repr=False)
    _server: asyncio.Server | None = field(default=None, repr=False)

    def stall(self) -> None:
        """From now on no answer comes."""
        self.stall_after = self.bytes_down

    def cut(self) -> None:
        """The next answer breaks off."""
        self.cut_after = self.bytes_down

    def refuse(self) -> None:
        """Closes what is open, and listens no more."""
        self._run(self._close())

    def reset_counts(self) -> None:
        """Begins to count anew."""
        self.n_connections = self.n_turns = self.bytes_down = 0

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for _ in range(3):
            # A connection just accepted gets its transport, which closes it; before, nobody would.
            await asyncio.sleep(0)
        # All of the loop: a connection that has just been accepted has not begun yet.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        connection = _Connection(self)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(connection.pump(reader, back, is_answer=False))
                    tasks.create_task(connection.pump(there, writer, is_answer=True))
            finally:
                back.close()
        except* (OSError, _CutOff, asyncio.CancelledError):
            pass  # asyncio would tell of a task that is canceled while the proxy closes
        finally:
            writer.close()


class _CutOff(Exception):
    pass


class _Connection:
    def __init__(self, proxy: FaultyProxy) -> None:
        self._proxy = proxy
        self._heard = True

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        """Passes on one direction until its end; each piece waits for its time, not for the one before."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(reader, pieces))
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    raise _CutOff
                if is_answer:
                    await self._misbehave(len(data))
                    self._heard = True
                elif self._heard:
                    self._heard = False
                    self._proxy.n_turns += 1
                writer.write(data)
                await writer.drain()

    async def _read(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        while True:
            data = await reader.read(_PIECE_BYTES)
            await pieces.put((time.monotonic() + self._proxy.delay_s / 2, data))
            if not data:
                return

    async def _misbehave(self, n_bytes: int) -> None:
        proxy = self._proxy
        if proxy.cut_after is not None and proxy.bytes_down + n_bytes > proxy.cut_after:
            raise _CutOff
        if proxy.stall_after is not None and proxy.bytes_down + n_bytes > proxy.stall_after:
            await asyncio.Event().wait()
        if proxy.bytes_per_s is not None:
            await asyncio.sleep(n_bytes / proxy.bytes_per_s)
        proxy.bytes_down += n_bytes


@contextlib.contextmanager
def faulty_proxy(target_port: int) -> Iterator[FaultyProxy]:
    """A proxy before the server on that port of 127.0.0.1, in a thread of its own."""
    proxy = FaultyProxy(target_port)
    thread = threading.Thread(target=proxy._loop.run_forever, name="faulty-proxy", daemon=True)
    thread.start()
    try:
        proxy._run(proxy._listen())
        yield proxy
    finally:
        proxy._run(proxy._close())
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join(10)
        proxy._loop.close()
