"""A worker's channels and consumers, for as long as one connection lasts."""

from __future__ import annotations

import asyncio
from typing import Self

from aio_pika import Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractQueue,
)

from servicex_server.queue.transports.amqp.hands import Hand
from servicex_server.queue.transports.amqp.link import LOST, Alarm, patiently
from servicex_server.queue.transports.amqp.message import Heartbeat, pack
from servicex_server.queue.transports.amqp.topology import Take, Topology


class WorkerSession:
    """What a worker does with one connection.

    Attributes:
        orphans: units in hand that the broker does not count as this connection's. For each of them a slot
            has no consumer; it gets one when the unit ends, or comes again.
    """

    def __init__(
        self,
        outgoing: AbstractChannel,
        incoming: AbstractChannel,
        heartbeats: AbstractExchange,
        queues: dict[str, AbstractQueue],
        topology: Topology,
    ) -> None:
        self._topology = topology
        self.alarm = Alarm()
        self.incoming = incoming
        self.orphans: set[Hand] = set()
        self._outgoing = outgoing
        self._heartbeats = heartbeats
        self._queues = queues
        self._tags: list[tuple[AbstractQueue, str]] = []
        self._consuming = asyncio.Lock()
        self._is_stopped = False

    @classmethod
    async def open(cls, connection: AbstractConnection, topology: Topology) -> Self:
        """Declares what a worker uses; raises ConfigurationError as `Topology.declare_work`."""
        outgoing = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await topology.declare_work(outgoing)
        heartbeats = await topology.declare_fanout(outgoing, topology.heartbeats)
        incoming = await connection.channel(publisher_confirms=False)
        queues = {
            name: await incoming.get_queue(name, ensure=False)
            for name in (topology.units, topology.preflights)
        }
        session = cls(outgoing, incoming, heartbeats, queues, topology)
        await session.alarm.guard(outgoing)
        await session.alarm.guard(incoming)
        return session

    async def consume(self, name: str, prefetch: int, take: Take) -> None:
        """Takes up to that many units more at once. Each call makes a consumer with a bound of its own."""
        async with self._consuming:
            if self._is_stopped or prefetch <= 0:
                return
            await patiently(self.incoming.set_qos(prefetch_count=prefetch))
            queue = self._queues[name]
            tag = await self._topology.consume(queue, take)
            self._tags.append((queue, tag))

    async def stop_consuming(self) -> None:
        """Takes no further units; those in hand stay there."""
        async with self._consuming:
            self._is_stopped = True
            for queue, tag in self._tags:
                await patiently(queue.cancel(tag))
            self._tags.clear()

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Says that the worker lives; returns when the broker has heard it."""
        await patiently(self._heartbeats.publish(Message(pack(heartbeat)), "", mandatory=False))

    async def send(self, message: Message, queue: str) -> bool:
        """Hands a message over to the broker; False if that is not certain, and then this session ends."""
        try:
            await patiently(self._outgoing.default_exchange.publish(message, queue))
        except LOST as error:
            self.alarm.ring(f"a report could not be sent: {error}")
            return False
        return True
