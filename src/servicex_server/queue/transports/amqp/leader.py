"""The leader's side of the queue on RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from aio_pika import Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    DeliveryMode,
)

from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Reason, Unit
from servicex_server.queue.codec import encode_unit
from servicex_server.queue.desk import DEFAULT_MAX_UNITS
from servicex_server.queue.frame import FrameError, decode
from servicex_server.queue.outbox import Outbox, ReportInHand
from servicex_server.queue.outcome import ended_early
from servicex_server.queue.transports.amqp import message as messages
from servicex_server.queue.transports.amqp.acks import Acks
from servicex_server.queue.transports.amqp.address import BrokerAddress
from servicex_server.queue.transports.amqp.crew import Absence
from servicex_server.queue.transports.amqp.flight import Flight, Flying
from servicex_server.queue.transports.amqp.inflow import Inflow
from servicex_server.queue.transports.amqp.link import LOST, Alarm, Link, all_of, patiently, together
from servicex_server.queue.transports.amqp.message import (
    MAX_BYTES,
    Cancel,
    RollCall,
    Work,
    is_preflight,
    key_of,
    pack,
)
from servicex_server.queue.transports.amqp.topology import Topology
from servicex_server.queue.waiting import WaitingUnits
from servicex_server.telemetry.metrics import watch_queue

logger = logging.getLogger(__name__)

_BATCH = 64
_MAX_ORDERS = 10_000
_OPENING_S = 60.0
_LAST_WORDS_S = 3.0


class AmqpQueue:
    """A `Queue` for the one process that leads: units wait here, and go to the broker a few at a time.

    Reports stay in the broker until they are acknowledged, so a worker is rid of them before they are
    recorded, and a later leader hears those that this one did not record. When it opens, it takes the units
    back that lie ready in the broker: its caller publishes again what is not done. What workers have in hand
    stays with them.

    Args:
        url: of the broker, `amqp://` or `amqps://` (with `?cafile=…` for an authority of your own).
        prefix: of the names of queues and exchanges; the same for leader, workers and apps.
        max_units: bound on waiting units; above it `publish` raises Busy.
        max_reports: bound on reports that were offered and not acknowledged; others wait in the broker.
        heartbeat_s: how often workers say that they live (they must be told the same).
        silence_s: a worker from which nothing was heard for so long is treated as gone.
        grace_s: a unit that is neither ready nor in hand for so long is published again.
        patience_s: `publish` raises Busy once the broker has been away for so long.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "servicex",
        max_units: int = DEFAULT_MAX_UNITS,
        max_reports: int = 1000,
        heartbeat_s: float = 2.0,
        silence_s: float = 10.0,
        grace_s: float = 10.0,
        patience_s: float = 30.0,
    ) -> None:
        self._topology = Topology(prefix)
        self._heartbeat_s = heartbeat_s
        self._silence_s = silence_s
        self._patience_s = patience_s
        self._max_reports = max_reports
        self._waiting = WaitingUnits(max_units)
        self._flight = Flight(silence_s=silence_s, grace_s=grace_s)
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._inflow = Inflow(self._flight, self._outbox, self._wake.set)
        self._orders: deque[Cancel | RollCall] = deque(maxlen=_MAX_ORDERS)
        self._wake_orders = asyncio.Event()
        self._acks = Acks()
        self._is_settled = False
        self._absence = Absence(silence_s)
        self._exits = ExitStack()
        self._link = Link(BrokerAddress.parse(url), self._serve, what="leader")

    async def __aenter__(self) -> Self:
        """Connects; an absent broker is waited for in the background.

        Raises:
            ConfigurationError: the broker refuses the user, or has such queues with other properties.
        """
        await self._link.open()
        self._exits.enter_context(
            watch_queue(
                waiting=lambda: len(self._waiting),
                leased=lambda: len(self._flight),
                slots=lambda: self._flight.n_slots,
                reports=lambda: len(self._outbox),
            )
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()
        self._outbox.close()
        if self._link.down_s == 0.0:
            with suppress(*LOST):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._acks.flush()
        await self._link.close()

    @property
    def n_slots(self) -> int:
        """How many transforms the workers that were heard can work on at once."""
        return self._flight.n_slots

    async def publish(self, units: Sequence[Unit]) -> None:
        """Puts the units into the waiting line.

        Raises:
            Busy: they do not fit, or the broker has not been reachable for a while; none was taken.
        """
        if self._link.down_s > self._patience_s:
            message = (
                f"the message broker has not been reachable for {self._link.down_s:.0f} s; "
                "see the server's log, and try again later"
            )
            raise Busy(message)
        self._waiting.add(units)
        self._flight.expect(units)
        self._wake.set()

    async def cancel(self, request_id: RequestId) -> None:
        self._waiting.drop(request_id)
        self._order(self._flight.cancel(request_id))

    def reports(self) -> AsyncIterator[ReportInHand]:
        return self._outbox.deliveries()

    # A session with the broker

    async def _serve(self, connection: AbstractConnection, up: Callable[[], None]) -> None:
        self._is_settled = False
        async with asyncio.timeout(_OPENING_S):
            alarm = Alarm()
            out = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await alarm.guard(out)
            queues = await self._topology.declare_work(out)
            orders = await self._topology.declare_fanout(out, self._topology.orders)
            for name in (self._topology.units, self._topology.preflights):
                await queues[name].purge()
            self._flight.interrupted()
            self._acks = acks = await self._listen(connection, alarm)
        up()
        self._order(RollCall())
        await together(
            alarm.wait(),
            self._pump(out),
            self._send_orders(orders),
            self._settle(),
            self._watch(connection),
            acks.run(),
        )

    async def _listen(self, connection: AbstractConnection, alarm: Alarm) -> Acks:
        """Begins to hear workers' outcomes and heartbeats."""
        channel = await connection.channel(publisher_confirms=False)
        await alarm.guard(channel)
        await channel.set_qos(prefetch_count=min(self._max_reports, 65_535))
        acks = Acks()

        async def take_report(message: AbstractIncomingMessage) -> None:
            self._inflow.receive_report(message, acks)

        async def take_failed(message: AbstractIncomingMessage) -> None:
            self._inflow.receive_failed(message, acks)

        ear = await self._topology.declare_ear(
            channel, self._topology.heartbeats, max_length=20_000, ttl_s=self._silence_s
        )
        await self._topology.consume(ear, self._take_heartbeat, no_ack=True)
        reports = await channel.get_queue(self._topology.reports, ensure=False)
        await self._topology.consume(reports, take_report)
        failed = await channel.get_queue(self._topology.failed, ensure=False)
        await self._topology.consume(failed, take_failed)
        return acks

    async def _take_heartbeat(self, message: AbstractIncomingMessage) -> None:
        try:
            heartbeat = decode(messages.heartbeats, message.body)
        except FrameError as error:
            logger.warning("worker.garbled: its heartbeat is not our protocol: %s", error)
            return
        for missed in self._flight.heard(heartbeat):
            self._order(missed)
        self._wake.set()

    async def _settle(self) -> None:
        """Gives all workers the time to tell what they have in hand; then what is in no hand goes out."""
        await asyncio.sleep(self._heartbeat_s)
        self._offer_again(self._flight.take_unheld())
        self._is_settled = True
        self._wake.set()
        await asyncio.Event().wait()

    async def _pump(self, out: AbstractChannel) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                await patiently(all_of(self._send_unit(out, flying) for flying in batch))
            else:
                await self._wake.wait()
                self._wake.clear()

    def _next_batch(self) -> list[Flying]:
        batch: list[Flying] = []
        while len(batch) < _BATCH:
            unit = self._waiting.take_preflight() if self._flight.has_room_for_preflight else None
            if unit is None and self._is_settled and self._flight.has_room_for_transform:
                unit = self._waiting.take_transform()
            if unit is None:
                break
            flying = self._flight.admit(unit)
            if flying is not None:
                batch.append(flying)
        return batch

    async def _send_unit(self, out: AbstractChannel, flying: Flying) -> None:
        key = key_of(flying.unit)
        try:
            body = pack(Work(flying.stamp, encode_unit(flying.unit)))
            if len(body) > MAX_BYTES:
                text = f"its message of {len(body)} bytes is larger than the allowed {MAX_BYTES}"
                raise FrameError(text)  # noqa: TRY301  # one way to say it
        except FrameError as error:
            text = f"cannot be given to a worker: {error}"
            self._inflow.offer(ended_early(flying.unit, Reason.INTERNAL, text, 0.0), key, flying.stamp)
            return
        name = self._topology.preflights if is_preflight(key) else self._topology.units
        await out.default_exchange.publish(Message(body, delivery_mode=DeliveryMode.PERSISTENT), name)
        flying.is_confirmed = True

    def _order(self, order: Cancel | RollCall) -> None:
        self._orders.append(order)
        self._wake_orders.set()

    async def _send_orders(self, exchange: AbstractExchange) -> None:
        while True:
            while self._orders:
                order = self._orders[0]
                await patiently(exchange.publish(Message(pack(order)), "", mandatory=False))
                if self._orders and self._orders[0] is order:
                    self._orders.popleft()
            self._wake_orders.clear()
            await self._wake_orders.wait()

    async def _watch(self, connection: AbstractConnection) -> None:
        """Compares the books with what lies ready in the broker, every heartbeat."""
        channel = await connection.channel(publisher_confirms=False)
        before = time.monotonic()
        while True:
            await asyncio.sleep(self._heartbeat_s)
            ready: dict[str, int] = {}
            for name in self._topology.durable_queues:
                queue = await patiently(channel.declare_queue(name, passive=True))
                ready[name] = queue.declaration_result.message_count or 0
            now = time.monotonic()
            # Bounded: after a stop of this process the workers get the chance to be heard.
            passed_s = min(now - before, 2 * self._heartbeat_s)
            n_silent = self._flight.pass_time(passed_s)
            before = now
            if n_silent:
                logger.warning(
                    "worker.silent: %d not heard for %.0f s; treated as gone", n_silent, self._silence_s
                )
            if self._is_settled:
                self._tell_absence(passed_s, ready[self._topology.units] + ready[self._topology.preflights])
                missing = self._flight.take_missing(sum(ready.values()))
                if missing:
                    logger.warning("unit.missing: %d were nowhere; published again", len(missing))
                self._offer_again(missing)
            self._wake.set()

    def _tell_absence(self, passed_s: float, n_ready: int) -> None:
        """Says that nobody takes the work, and when that is over."""
        n_waiting = len(self._waiting) + n_ready
        news = self._absence.pass_time(passed_s, n_waiting=n_waiting, n_slots=self._flight.n_slots)
        if news is True:
            logger.warning(
                "worker.none: %d units wait, and no worker takes units of %r: start `servicex-server worker` "
                "with the same queue_url and queue_prefix",
                n_waiting,
                self._topology.prefix,
            )
        elif news is False:
            logger.warning("worker.back: there are workers again, and what waited goes on")

    def _offer_again(self, units: Sequence[Unit]) -> None:
        for unit in reversed(units):
            self._waiting.give_back(unit)
        self._wake.set()
