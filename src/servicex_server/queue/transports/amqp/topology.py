"""The names and properties of everything that is declared in the broker.

    units       quorum queue     leader → one worker    dead letters to failed after DELIVERY_LIMIT deliveries
    preflights  quorum queue     leader → one worker    the same
    failed      quorum queue     broker → leader        units that nobody could finish
    reports     quorum queue     worker → leader
    heartbeats  fan-out          workers → leader       transient
    orders      fan-out          leader → workers       transient
    hints       fan-out          app → apps             transient

Durable queues stay when everybody goes. Each reader of a fan-out has a queue of its own that goes with it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelClosed, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from pamqp.common import FieldTable

from servicex_server.errors import ConfigurationError
from servicex_server.queue.transports.amqp.link import patiently

Take = Callable[[AbstractIncomingMessage], Awaitable[None]]

DELIVERY_LIMIT = 5
"""A unit that came back that often (with its worker's connection, or given back) is delivered no more."""

_CONSUMER_TIMEOUT_MS = 7 * 24 * 3600 * 1000
"""Longer than any unit's deadline. Before RabbitMQ 3.12 only the broker's own `consumer_timeout` counts."""

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Topology:
    """What one deployment declares; its prefix keeps it apart from others on the same virtual host."""

    prefix: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            message = "the prefix of the broker's queues must be 1 to 100 letters, digits or any of . _ -"
            raise ConfigurationError(message)

    @property
    def units(self) -> str:
        return f"{self.prefix}.units"

    @property
    def preflights(self) -> str:
        return f"{self.prefix}.preflights"

    @property
    def failed(self) -> str:
        return f"{self.prefix}.failed"

    @property
    def reports(self) -> str:
        return f"{self.prefix}.reports"

    @property
    def heartbeats(self) -> str:
        return f"{self.prefix}.heartbeats"

    @property
    def orders(self) -> str:
        return f"{self.prefix}.orders"

    @property
    def hints(self) -> str:
        return f"{self.prefix}.hints"

    @property
    def durable_queues(self) -> tuple[str, ...]:
        return (self.units, self.preflights, self.failed, self.reports)

    @property
    def exchanges(self) -> tuple[str, ...]:
        return (self.failed, self.heartbeats, self.orders, self.hints)

    async def declare_work(self, channel: AbstractChannel) -> dict[str, AbstractQueue]:
        """Declares all durable queues; returns them by name.

        Raises:
            ConfigurationError: one exists with other properties, or the broker's user may not declare it.
        """
        failed = await self._declare_queue(channel, self.failed, {})
        letters = await self.declare_fanout(channel, self.failed)
        await failed.bind(letters)
        offered: FieldTable = {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": self.failed,
        }
        return {
            self.units: await self._declare_queue(channel, self.units, offered),
            self.preflights: await self._declare_queue(channel, self.preflights, offered),
            self.reports: await self._declare_queue(channel, self.reports, {}),
            self.failed: failed,
        }

    async def declare_fanout(self, channel: AbstractChannel, name: str) -> AbstractExchange:
        """Declares an exchange that copies what it gets to every queue bound to it; errors as above."""
        try:
            return await channel.declare_exchange(name, "fanout", durable=True)
        except ChannelClosed as error:
            raise _explain(
                error, f"exchange {name!r}", "delete it in the broker's management page"
            ) from error

    async def declare_ear(
        self, channel: AbstractChannel, name: str, *, max_length: int, ttl_s: float
    ) -> AbstractQueue:
        """A queue of this connection that hears a fan-out exchange; bounded, the oldest messages go first."""
        exchange = await self.declare_fanout(channel, name)
        arguments: FieldTable = {"x-max-length": max_length, "x-message-ttl": max(1, round(ttl_s * 1000))}
        ear = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=arguments)
        await ear.bind(exchange)
        return ear

    async def consume(self, queue: AbstractQueue, take: Take, *, no_ack: bool = False) -> str:
        """Begins to hear that queue; returns the consumer's tag.

        Raises:
            ConnectionError: the queue has lost its own leader, or all but a minority of its members.
        """
        try:
            return await patiently(queue.consume(take, no_ack=no_ack))
        except TimeoutError as error:
            message = (
                f"the broker's queue {queue.name!r} does not answer; should that last, delete it "
                f"(rabbitmqctl delete_queue {queue.name}): it is made again, and so is what it held"
            )
            raise ConnectionError(message) from error

    async def _declare_queue(
        self, channel: AbstractChannel, name: str, arguments: FieldTable
    ) -> AbstractQueue:
        try:
            return await channel.declare_queue(
                name,
                durable=True,
                arguments={
                    "x-queue-type": "quorum",
                    "x-consumer-timeout": _CONSUMER_TIMEOUT_MS,
                    **arguments,
                },
            )
        except ChannelClosed as error:
            raise _explain(error, f"queue {name!r}", f"rabbitmqctl delete_queue {name}") from error


def _explain(error: ChannelClosed, what: str, remedy: str) -> Exception:
    if isinstance(error, ChannelPreconditionFailed):
        message = (
            f"the broker's {what} exists with other properties than this version needs ({error}): stop "
            f"servers and workers, delete it ({remedy}) and start them again, or choose another prefix"
        )
        return ConfigurationError(message)
    if isinstance(error, ChannelAccessRefused):
        message = f"the broker's user may not declare the {what} ({error}): give it configure, write and read"
        return ConfigurationError(message)
    return error
