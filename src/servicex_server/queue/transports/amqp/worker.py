"""The worker's side of the queue on RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

from aio_pika import Message
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, DeliveryMode

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Report, Unit
from servicex_server.queue.codec import decode_unit, encode_report
from servicex_server.queue.frame import FrameError, decode
from servicex_server.queue.stream import Stream
from servicex_server.queue.transports.amqp import message as messages
from servicex_server.queue.transports.amqp.address import BrokerAddress
from servicex_server.queue.transports.amqp.hands import Answer, Hand, Hands
from servicex_server.queue.transports.amqp.link import LOST, Link, patiently, together
from servicex_server.queue.transports.amqp.message import (
    Cancel,
    Heartbeat,
    Outcome,
    is_preflight,
    key_of,
    pack,
)
from servicex_server.queue.transports.amqp.session import WorkerSession
from servicex_server.queue.transports.amqp.topology import Topology

logger = logging.getLogger(__name__)

CLOSED = "this worker's queue was closed"
_OPENING_S = 60.0
_LAST_WORDS_S = 3.0


class AmqpWorkSource:
    """A `WorkSource` on RabbitMQ that outlives leaders, and outages of the broker.

    A unit stays the broker's until its report is in the broker's safe hands: if this process dies, another
    worker gets it. If the broker goes, running units go on, and are reported when it is back.

    Args:
        url, prefix, heartbeat_s: as the leader's.
        slots: transforms at once.
        preflights: preflights at once beyond that; so a look at a file does not wait for long transforms.
    """

    def __init__(
        self,
        url: str,
        *,
        slots: int,
        prefix: str = "servicex",
        preflights: int = 1,
        heartbeat_s: float = 2.0,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._topology = Topology(prefix)
        self._slots = slots
        self._preflights = preflights
        self._heartbeat_s = heartbeat_s
        self._hands = Hands()
        self._active: set[Hand] = set()
        self._units: Stream[AmqpDelivery] = Stream()
        self._cancellations: Stream[RequestId] = Stream()
        self._numbers = count(1)
        self._session: WorkerSession | None = None
        self._changed_session = asyncio.Condition()
        self._beat_now = asyncio.Event()
        self._n_new = 0
        self._was_up = False
        self._is_draining = False
        self._is_closed = False
        self._link = Link(BrokerAddress.parse(url), self._serve, what=f"worker {self.name}")

    async def __aenter__(self) -> Self:
        """Connects; an absent broker is waited for in the background.

        Raises:
            ConfigurationError: the broker refuses the user, or has such queues with other properties.
        """
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        self._units.take_all()
        self._units.close()
        self._cancellations.close()
        if self._session is not None:
            with suppress(*LOST):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._session.beat(Heartbeat(self.name, 0, is_last=True))
        await self._link.close()
        async with self._changed_session:
            self._changed_session.notify_all()

    # WorkSource

    @property
    def is_connected(self) -> bool:
        """True until this side hangs up: an absent broker is waited for."""
        return not self._is_closed

    def units(self) -> AsyncIterator[AmqpDelivery]:
        return self._units

    def cancellations(self) -> AsyncIterator[RequestId]:
        return self._cancellations

    async def drain(self) -> None:
        self._is_draining = True
        self._units.close()
        for delivery in self._units.take_all():
            await self.release(delivery.hand)
        if self._session is not None:
            with suppress(*LOST):
                await self._session.stop_consuming()
        self._beat_now.set()

    # What deliveries say

    async def report(self, hand: Hand, report: Report) -> None:
        """Returns once the broker has the report in safe hands, however long that takes."""
        if self._is_closed:
            raise ConnectionError(CLOSED)
        if not hand.is_canceled:
            name = f"{self.name}-{next(self._numbers)}"
            body = encode_report(report)
            while True:
                session = await self._connected()
                outcome = pack(Outcome(hand.key, hand.stamp, body))
                message = Message(outcome, message_id=name, delivery_mode=DeliveryMode.PERSISTENT)
                if await session.send(message, self._topology.reports):
                    break
                self._forget(session)
            self._hands.ended(hand)
        await self._settle(hand)

    async def release(self, hand: Hand) -> None:
        """Gives the unit back to the broker, or drops it if it was canceled."""
        if self._is_closed:
            raise ConnectionError(CLOSED)
        self._hands.let_go(hand)
        await self._settle(hand, give_back=not hand.is_canceled)

    async def _settle(self, hand: Hand, *, give_back: bool = False) -> None:
        """Frees the unit's slot. A broker that cannot be told offers the unit again; it is then known."""
        self._active.discard(hand)
        with suppress(*LOST):
            if hand.message is None:
                await self._replace(hand)
            elif give_back:
                await patiently(hand.message.nack(requeue=True))
            else:
                await patiently(hand.message.ack())

    async def _replace(self, hand: Hand) -> None:
        """Lets the slot of an orphan take a unit again."""
        session = self._session
        if session is not None and hand in session.orphans:
            session.orphans.discard(hand)
            name = self._topology.preflights if is_preflight(hand.key) else self._topology.units
            await session.consume(name, 1, partial(self._take, session))

    async def _connected(self) -> WorkerSession:
        async with self._changed_session:
            await self._changed_session.wait_for(lambda: self._session is not None or self._is_closed)
        if self._session is None or self._is_closed:
            raise ConnectionError(CLOSED)
        return self._session

    def _forget(self, session: WorkerSession) -> None:
        if self._session is session:
            self._session = None

    # A session with the broker

    async def _serve(self, connection: AbstractConnection, up: Callable[[], None]) -> None:
        self._orphan()
        async with asyncio.timeout(_OPENING_S):
            session = await WorkerSession.open(connection, self._topology)
            ear = await self._topology.declare_ear(
                session.incoming, self._topology.orders, max_length=20_000, ttl_s=60.0
            )
            await self._topology.consume(ear, self._take_order, no_ack=True)
        self._session = session
        async with self._changed_session:
            self._changed_session.notify_all()
        up()
        try:
            await together(session.alarm.wait(), self._keep_beating(session), self._begin(session))
        finally:
            self._forget(session)

    def _orphan(self) -> None:
        """Takes note that the broker knows nothing of this worker now. What was not begun is left to it."""
        for delivery in self._units.take_all():
            self._hands.let_go(delivery.hand)
            self._active.discard(delivery.hand)
        for hand in self._active:
            hand.message = None

    async def _begin(self, session: WorkerSession) -> None:
        """Consumes with every slot that is free.

        After an outage it waits an interval before: by then the leader has taken back what was in hand when
        the connection broke, which would be done twice otherwise.
        """
        if self._was_up:
            await asyncio.sleep(self._heartbeat_s)
        self._was_up = True
        if not self._is_draining:
            session.orphans = set(self._active)
            n_preflights = sum(is_preflight(hand.key) for hand in session.orphans)
            n_transforms = len(session.orphans) - n_preflights
            take = partial(self._take, session)
            await session.consume(self._topology.preflights, self._preflights - n_preflights, take)
            await session.consume(self._topology.units, self._slots - n_transforms, take)
        await asyncio.Event().wait()

    async def _keep_beating(self, session: WorkerSession) -> None:
        while True:
            self._beat_now.clear()
            self._n_new = 0
            slots = 0 if self._is_draining else self._slots
            hands = tuple((str(hand.key), hand.stamp) for hand in self._hands)
            await session.beat(Heartbeat(self.name, slots, hands))
            await asyncio.sleep(self._heartbeat_s / 8)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s * 7 / 8):
                    await self._beat_now.wait()

    # What the broker delivers

    async def _take(self, session: WorkerSession, message: AbstractIncomingMessage) -> None:
        with suppress(*LOST):
            try:
                work = decode(messages.works, message.body)
                unit = decode_unit(work.unit)
            except FrameError as error:
                logger.warning("unit.garbled: from a leader of another version? %s", error)
                await message.reject(requeue=False)
                return
            if self._is_draining or self._is_closed:
                await message.nack(requeue=True)
                return
            answer, hand = self._hands.consider(Hand(unit, key_of(unit), work.stamp, message))
            match answer:
                case Answer.TAKE:
                    self._welcome(hand)
                case Answer.DROP:
                    await message.ack()
                case Answer.ADOPTED if hand in session.orphans:
                    await self._replace(hand)

    def _welcome(self, hand: Hand) -> None:
        self._active.add(hand)
        self._units.put(AmqpDelivery(hand.unit, hand, self))
        self._n_new += 1
        if self._n_new >= max(2, self._slots // 2):
            self._beat_now.set()

    async def _take_order(self, message: AbstractIncomingMessage) -> None:
        try:
            order = decode(messages.orders, message.body)
        except FrameError as error:
            logger.warning("order.garbled: from a leader of another version? %s", error)
            return
        if not isinstance(order, Cancel):
            self._beat_now.set()
            return
        self._hands.cancel(RequestId(order.request_id), order.stamp)
        not_begun = self._units.take_all()
        for delivery in not_begun:
            if not delivery.hand.is_canceled:
                self._units.put(delivery)
        self._cancellations.put(RequestId(order.request_id))
        for delivery in not_begun:
            if delivery.hand.is_canceled:
                await self._settle(delivery.hand)


@dataclass(frozen=True, slots=True, eq=False)
class AmqpDelivery:
    """A unit of this worker's until it reports or gives it back."""

    unit: Unit
    hand: Hand
    source: AmqpWorkSource

    async def report(self, report: Report) -> None:
        """Returns once the broker has the report; raises ConnectionError if this side hung up."""
        await self.source.report(self.hand, report)

    async def release(self) -> None:
        await self.source.release(self.hand)
