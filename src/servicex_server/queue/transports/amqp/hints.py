"""What apps tell each other: "this request changed". May be lost; whoever must know polls as well."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from servicex_server.model.ids import RequestId
from servicex_server.queue.frame import FrameError, decode
from servicex_server.queue.stream import Stream
from servicex_server.queue.transports.amqp import message as messages
from servicex_server.queue.transports.amqp.address import BrokerAddress
from servicex_server.queue.transports.amqp.crew import BrokerCrew
from servicex_server.queue.transports.amqp.link import Alarm, Link, patiently, together
from servicex_server.queue.transports.amqp.message import Hint, pack
from servicex_server.queue.transports.amqp.topology import Topology

logger = logging.getLogger(__name__)

_MAX_PENDING = 10_000
_AT_ONCE = 200
_TTL_S = 30.0


class AmqpHints:
    """A fan-out of request ids to all other apps, any of which may lead.

    Args:
        url, prefix: as the queue's.

    Attributes:
        crew: whether workers are connected, as far as this connection can tell.
    """

    def __init__(self, url: str, *, prefix: str = "servicex") -> None:
        self._topology = Topology(prefix)
        self.crew = BrokerCrew(self._topology)
        self._name = uuid.uuid4().hex
        self._outgoing: OrderedDict[RequestId, None] = OrderedDict()
        self._something = asyncio.Event()
        self._incoming = _Unread()
        self._link = Link(BrokerAddress.parse(url), self._serve, what="hints")

    async def __aenter__(self) -> Self:
        """Connects; an absent broker is waited for in the background.

        Raises:
            ConfigurationError: the broker refuses.
        """
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._incoming.close()
        await self._link.close()

    async def send(self, request_id: RequestId) -> None:
        """Tells the others soon; never waits and never fails. Repeats that were not yet sent become one."""
        self._outgoing[request_id] = None
        if len(self._outgoing) > _MAX_PENDING:
            self._outgoing.popitem(last=False)
        self._something.set()

    def hints(self) -> AsyncIterator[RequestId]:
        """Requests that other apps changed, each once until it was read; ends when this is closed."""
        return self._incoming

    async def _serve(self, connection: AbstractConnection, up: Callable[[], None]) -> None:
        alarm = Alarm()
        channel = await patiently(_open(connection, alarm))
        ear = await patiently(
            self._topology.declare_ear(channel, self._topology.hints, max_length=_MAX_PENDING, ttl_s=_TTL_S)
        )
        await self._topology.consume(ear, self._take, no_ack=True)
        up()
        await together(alarm.wait(), self._send_all(channel), self.crew.watch(connection))

    async def _send_all(self, channel: AbstractChannel) -> None:
        exchange = await channel.get_exchange(self._topology.hints, ensure=False)
        while True:
            while self._outgoing:
                some = [
                    self._outgoing.popitem(last=False)[0] for _ in range(min(_AT_ONCE, len(self._outgoing)))
                ]
                message = Message(pack(Hint(self._name, tuple(some))))
                await patiently(exchange.publish(message, "", mandatory=False))
            self._something.clear()
            await self._something.wait()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            hint = decode(messages.hints, message.body)
        except FrameError as error:
            logger.warning("hint.garbled: from an app of another version? %s", error)
            return
        if hint.sender != self._name:
            for request_id in hint.request_ids:
                self._incoming.put(RequestId(request_id))


class _Unread(Stream[RequestId]):
    """A bounded stream without repeats of what was not read."""

    def __init__(self) -> None:
        super().__init__()
        self._unread: set[RequestId] = set()

    def put(self, item: RequestId) -> None:
        if item not in self._unread and len(self._unread) < _MAX_PENDING and not self.is_closed:
            self._unread.add(item)
            super().put(item)

    async def __anext__(self) -> RequestId:
        item = await super().__anext__()
        self._unread.discard(item)
        return item


async def _open(connection: AbstractConnection, alarm: Alarm) -> AbstractChannel:
    channel = await connection.channel(publisher_confirms=True)
    await alarm.guard(channel)
    return channel
