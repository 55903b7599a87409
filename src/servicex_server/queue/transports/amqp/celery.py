"""Tasks to and from the programs of others that speak Celery: DID finders, official sidecars."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from aio_pika import Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    DeliveryMode,
    HeadersType,
)
from aio_pika.exceptions import ChannelClosed
from pamqp.common import FieldTable

from servicex_server.errors import Busy, ConfigurationError
from servicex_server.queue.celery_wire import (
    BROADCAST_EXCHANGE,
    CeleryMessage,
    CeleryQueue,
    CeleryTask,
    JsonValue,
    build_task,
    parse_task,
)
from servicex_server.queue.frame import FrameError
from servicex_server.queue.stream import Stream
from servicex_server.queue.transports.amqp.address import BrokerAddress
from servicex_server.queue.transports.amqp.link import LOST, Alarm, Link, patiently

logger = logging.getLogger(__name__)

_MAX_KNOWN_QUEUES = 10_000


class CeleryPublisher:
    """Sends tasks to queues that it declares as their readers do.

    Args:
        url: of the broker.
        patience_s: `send` raises Busy when there is no connection for so long.
    """

    def __init__(self, url: str, *, patience_s: float = 10.0) -> None:
        self._patience_s = patience_s
        self._session: _Session | None = None
        self._is_up = asyncio.Event()
        self._link = Link(BrokerAddress.parse(url), self._serve, what="celery publisher")

    async def __aenter__(self) -> Self:
        """Connects; an absent broker is waited for in the background. Raises ConfigurationError."""
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.close()

    async def send(self, queue: CeleryQueue, task: CeleryTask) -> None:
        """Hands the task over; returns once the broker has it (on disk, if the queue is durable).

        Raises:
            Busy: the broker does not take it now; it may or may not have it.
            ConfigurationError: the queue exists with other properties.
            FrameError: the task cannot be encoded.
        """
        message = _to_message(build_task(task), DeliveryMode.PERSISTENT)
        session = await self._connected()
        try:
            async with session.one_at_a_time:
                await session.declare(queue)
                await patiently(session.channel.default_exchange.publish(message, queue.name))
        except ConfigurationError:
            session.alarm.ring("the channel is gone with a refused queue")
            raise
        except LOST as error:
            raise self._lose(session, error) from error

    async def broadcast(self, message: CeleryMessage) -> None:
        """Sends a command to all Celery workers. Raises Busy as `send`."""
        session = await self._connected()
        try:
            sent = _to_message(message, DeliveryMode.NOT_PERSISTENT)
            await patiently(session.broadcasts.publish(sent, "", mandatory=False))
        except LOST as error:
            raise self._lose(session, error) from error

    async def _connected(self) -> _Session:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._is_up.wait()
        except TimeoutError:
            message = "the message broker is not reachable; try again later"
            raise Busy(message) from None
        assert self._session is not None  # noqa: S101  # it is set with the event
        return self._session

    def _lose(self, session: _Session, error: BaseException) -> Busy:
        session.alarm.ring(f"a task could not be sent: {error}")
        if self._session is session:
            self._is_up.clear()
        return Busy("the message broker did not take the task; try again later")

    async def _serve(self, connection: AbstractConnection, up: Callable[[], None]) -> None:
        session = await patiently(_Session.open(connection))
        self._session = session
        self._is_up.set()
        up()
        try:
            await session.alarm.wait()
        finally:
            self._is_up.clear()


@dataclass(slots=True)
class _Session:
    """A publisher's channel, and what it has declared."""

    channel: AbstractChannel
    broadcasts: AbstractExchange
    alarm: Alarm
    one_at_a_time: asyncio.Lock
    known: set[CeleryQueue]

    @classmethod
    async def open(cls, connection: AbstractConnection) -> Self:
        alarm = Alarm()
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await alarm.guard(channel)
        broadcasts = await channel.declare_exchange(BROADCAST_EXCHANGE, "fanout", durable=False)
        return cls(channel, broadcasts, alarm, asyncio.Lock(), set())

    async def declare(self, queue: CeleryQueue) -> None:
        """Declares a queue before its first use, and one that may have gone before every use."""
        if queue in self.known:
            return
        await patiently(declare_queue(self.channel, queue))
        if queue.durable and len(self.known) < _MAX_KNOWN_QUEUES:
            self.known.add(queue)


class CeleryConsumer:
    """Takes tasks from a queue, as a Celery worker does; each stays the broker's until it is acknowledged."""

    def __init__(self, url: str, queue: CeleryQueue, *, at_once: int = 1) -> None:
        self._queue = queue
        self._at_once = at_once
        self._tasks: Stream[CeleryDelivery] = Stream()
        self._link = Link(BrokerAddress.parse(url), self._serve, what=f"celery consumer of {queue.name}")

    async def __aenter__(self) -> Self:
        """Connects; an absent broker is waited for in the background. Raises ConfigurationError."""
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.close()
        await self._link.close()

    def tasks(self) -> AsyncIterator[CeleryDelivery]:
        """Tasks as they come, never more at once than was said; ends when this is closed."""
        return self._tasks

    async def _serve(self, connection: AbstractConnection, up: Callable[[], None]) -> None:
        self._tasks.take_all()  # what was not taken is delivered again
        alarm = Alarm()
        channel = await patiently(connection.channel(publisher_confirms=False))
        await alarm.guard(channel)
        await patiently(channel.set_qos(prefetch_count=self._at_once))
        await patiently(declare_queue(channel, self._queue))
        queue = await channel.get_queue(self._queue.name, ensure=False)
        await patiently(queue.consume(self._take))
        up()
        await alarm.wait()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            task = parse_task(_from_message(message))
        except FrameError as error:
            logger.warning("task.garbled: dropped from %s: %s", self._queue.name, error)
            await message.reject(requeue=False)
            return
        self._tasks.put(CeleryDelivery(task, message))


@dataclass(frozen=True, slots=True, eq=False)
class CeleryDelivery:
    """A task in hand."""

    task: CeleryTask
    message: AbstractIncomingMessage

    async def ack(self) -> None:
        """It is done. Raises ConnectionError if the broker was lost: it offers the task again."""
        try:
            await patiently(self.message.ack())
        except LOST as error:
            text = "the message broker was lost before it heard that the task is done"
            raise ConnectionError(text) from error


async def declare_queue(channel: AbstractChannel, queue: CeleryQueue) -> None:
    """Declares the queue as everybody else does; raises ConfigurationError if it exists otherwise."""
    try:
        await channel.declare_queue(
            queue.name,
            durable=queue.durable,
            auto_delete=queue.auto_delete,
            arguments=cast("FieldTable", queue.arguments) or None,
        )
    except ChannelClosed as error:
        message = (
            f"the broker's queue {queue.name!r} cannot be declared as its readers do ({error}); if it exists "
            f"with other properties, delete it (rabbitmqctl delete_queue {queue.name})"
        )
        raise ConfigurationError(message) from error


def _to_message(message: CeleryMessage, mode: DeliveryMode) -> Message:
    return Message(
        message.body,
        headers=cast("HeadersType", dict(message.headers)),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        correlation_id=message.correlation_id or None,
        delivery_mode=mode,
    )


def _from_message(message: AbstractIncomingMessage) -> CeleryMessage:
    return CeleryMessage(
        headers=cast("dict[str, JsonValue]", message.headers),
        body=message.body,
        correlation_id=message.correlation_id or "",
        content_type=message.content_type or "",
        content_encoding=message.content_encoding or "",
    )
