"""The worker's view of its child processes: start them, give them units, kill them, hear how they ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

from servicex_server.errors import ConfigurationError
from servicex_server.model.worker import HEAVY_MODULES, ExecutorSpec
from servicex_server.queue.frame import pack_frame, read_frame
from servicex_server.run.child import STAYS
from servicex_server.run.nursery import (
    MAX_PACKET_BYTES,
    Exited,
    Fork,
    Forked,
    Kill,
    Ready,
    Setup,
    ToNursery,
    encode,
    from_nursery,
)
from servicex_server.telemetry.metrics import WORKER_CHILD_RESTARTS, WORKER_CHILDREN

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
"""Importing from a slow network file system takes long; for ever it must not take."""

_EXIT_TIMEOUT_S = 10.0


_SINGLE_THREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Keeps numpy and pyarrow from starting threads at import: forking with threads is unsound."""


class NurseryLost(Exception):
    """The process that forks children has ended."""


class Child:
    """One slot's process."""

    def __init__(
        self, number: int, nursery: Nursery, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self._nursery = nursery
        self._reader = reader
        self._writer = writer
        self._is_retired = False
        self.pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def get_ready(self) -> None:
        """Returns when the child's executor is ready.

        Raises:
            ConfigurationError: it cannot start; says why.
        """
        await asyncio.shield(self.pid)
        complaint = await read_frame(self._reader)
        if complaint is None:
            message = f"a child process ended while it started: it {await self.describe_end()}"
            raise ConfigurationError(message)
        if complaint:
            message = f"the worker's executor cannot start: {complaint.decode(errors='replace')}"
            raise ConfigurationError(message)

    @property
    def is_usable(self) -> bool:
        return not (self._is_retired or self.exit_code.done() or self._reader.at_eof())

    async def ask(self, data: bytes) -> bytes | None:
        """Sends an encoded unit; returns the encoded report, or None if the child died over it.

        Raises:
            FrameError: the answer is larger than allowed; the child has to be killed.
        """
        with suppress(ConnectionError):
            self._writer.write(pack_frame(data))
            await self._writer.drain()
        answer = await read_frame(self._reader)
        if answer is None:
            return None
        self._is_retired = answer[:1] != STAYS
        return answer[1:]

    def kill(self) -> None:
        """Kills the child and what it started; harmless if it has ended.

        Whoever waits for its answer goes on at once: a process that hangs inside the kernel dies when it can.
        """
        self._is_retired = True
        self._nursery.send(Kill(self.number))
        self._writer.transport.abort()

    async def describe_end(self) -> str:
        """How it ended, as the end of a sentence."""
        try:
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                code = await asyncio.shield(self.exit_code)
        except (TimeoutError, NurseryLost):
            return "ended for an unknown cause"
        if code >= 0:
            return f"exited with code {code}"
        hints = {signal.SIGKILL: " (out of memory?)", signal.SIGSEGV: " (crash)", signal.SIGABRT: " (crash)"}
        return f"was killed by signal {-code}{hints.get(signal.Signals(-code), '')}"

    def close(self) -> None:
        self._writer.close()


class Nursery:
    """The worker's end of the conversation with the process that forks."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._numbers = count(1)
        self._children: dict[int, Child] = {}  # those that have not exited
        self._open: set[Child] = set()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def fork(self) -> Child:
        """A new child that is ready for units.

        Raises:
            ConfigurationError: its executor cannot start.
            NurseryLost: the nursery has ended.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            child = Child(next(self._numbers), self, *await asyncio.open_unix_connection(sock=ours))
            self._children[child.number] = child
            self._open.add(child)
            self.send(Fork(child.number), theirs)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await child.get_ready()
        except BaseException:
            self.discard(child)
            raise
        return child

    def discard(self, child: Child) -> None:
        """Kills the child if it lives, and closes the connection to it."""
        child.kill()
        child.close()
        self._open.discard(child)

    def close(self) -> None:
        """Closes the connections to all children."""
        for child in self._open:
            child.close()

    def send(self, message: ToNursery, attachment: socket.socket | None = None) -> None:
        """Says something; after the nursery's end nobody hears it."""
        descriptors = [attachment.fileno()] if attachment is not None else []
        with suppress(ConnectionError):
            socket.send_fds(self._control, [encode(message)], descriptors)

    def hear(self) -> None:
        """Takes one message from the control socket, which is readable."""
        try:
            packet = self._control.recv(MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        if not packet:
            self._lose()
            return
        match from_nursery.decode(packet):
            case Ready():
                self.ready.set_result(None)
            case Forked(number, pid):
                self._children[number].pid.set_result(pid)
                WORKER_CHILDREN.inc()
            case Exited(number, code):
                self._children.pop(number).exit_code.set_result(code)
                WORKER_CHILDREN.dec()

    def _lose(self) -> None:
        WORKER_CHILDREN.set(0)  # they die with it
        asyncio.get_running_loop().remove_reader(self._control)
        futures: list[asyncio.Future[int] | asyncio.Future[None]] = [self.ready]
        for child in self._children.values():
            futures += [child.pid, child.exit_code]
        for future in futures:
            if not future.done():
                future.set_exception(NurseryLost("the process that starts children has ended"))
                future.exception()  # marks it as seen: not everybody waits for every future
        if not self.lost.done():
            self.lost.set_result(None)


class Children:
    """A fixed number of children, replaced when they die."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._free: list[Child] = []

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when no new child can be started any more."""
        return self._nursery.lost

    async def add(self) -> None:
        self._free.append(await self._nursery.fork())

    async def take(self) -> Child:
        """A live child that is nobody else's; a dead one is replaced first.

        Raises:
            ConfigurationError: the executor cannot start (any more).
            NurseryLost: there is nobody left to fork.
        """
        child = self._free.pop()
        if child.is_usable:
            return child
        self._nursery.discard(child)
        WORKER_CHILD_RESTARTS.inc()
        return await self._nursery.fork()

    def give_back(self, child: Child) -> None:
        self._free.append(child)


@asynccontextmanager
async def open_children(
    slots: int,
    executor: ExecutorSpec,
    *,
    preload: tuple[str, ...] = HEAVY_MODULES,
    memory_limit_bytes: int | None = None,
    log_level: str = "INFO",
    log_json: bool = False,
) -> AsyncIterator[Children]:
    """That many children, ready for units. None of them outlives this process.

    Raises:
        ConfigurationError: the executor cannot start; says why.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    with ours:
        with theirs:
            process = await _start_nursery(theirs)
        nursery = Nursery(ours)
        loop.add_reader(ours, nursery.hear)
        try:
            setup = Setup(executor, preload, memory_limit_bytes, log_level, log_json, os.getpid())
            _require_packet(setup)
            nursery.send(setup)
            async with asyncio.timeout(_START_TIMEOUT_S):
                await nursery.ready
            children = Children(nursery)
            for _ in range(slots):  # in turn: what is wrong with the executor is then said once
                await children.add()
            yield children
        finally:
            loop.remove_reader(ours)
            nursery.close()
            await _end(process)


async def _start_nursery(control: socket.socket) -> asyncio.subprocess.Process:
    # -P: the folder the server was started in may hold somebody's numpy.py; nothing is imported from there.
    # A process group of its own: Ctrl-C in the terminal is for the server, which stops us in order.
    environment = {**_SINGLE_THREADED, **os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "servicex_server.run.nursery",
        stdin=control.fileno(),
        env=environment,
        process_group=0,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the nursery; the kernel then kills its children."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _require_packet(setup: Setup) -> None:
    if len(encode(setup)) > MAX_PACKET_BYTES:
        message = f"the executor's settings are larger than the allowed {MAX_PACKET_BYTES} bytes"
        raise ConfigurationError(message)
