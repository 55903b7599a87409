"""What comes from workers to the leader's consumer: each message once, until it is acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from aio_pika.abc import AbstractIncomingMessage

from servicex_server.model.unit import Reason, Report
from servicex_server.queue.codec import decode_report, decode_unit
from servicex_server.queue.frame import FrameError, decode
from servicex_server.queue.outbox import Outbox
from servicex_server.queue.outcome import ended_early
from servicex_server.queue.transports.amqp import message as messages
from servicex_server.queue.transports.amqp.acks import Acks
from servicex_server.queue.transports.amqp.flight import Flight
from servicex_server.queue.transports.amqp.memory import Memory
from servicex_server.queue.transports.amqp.message import UnitKey, key_of

logger = logging.getLogger(__name__)

_REMEMBERED = 20_000


@dataclass(slots=True)
class _Held:
    """A message whose report was offered; after a reconnection it comes again, on another channel."""

    message: AbstractIncomingMessage
    acks: Acks


class Inflow:
    """Turns messages into reports, and acknowledges a message once its report is.

    Args:
        changed: called when units have ended, so that others can be published.
    """

    def __init__(self, flight: Flight, outbox: Outbox, changed: Callable[[], None]) -> None:
        self._flight = flight
        self._outbox = outbox
        self._changed = changed
        self._held: dict[str, _Held] = {}
        self._acknowledged: Memory[str, None] = Memory(_REMEMBERED)

    def receive_report(self, message: AbstractIncomingMessage, acks: Acks) -> None:
        """Offers a worker's report, unless it came before or is of a canceled unit."""
        acks.came(message)
        try:
            outcome = decode(messages.outcomes, message.body)
            report = decode_report(outcome.report)
        except FrameError as error:
            logger.warning("report.garbled: a worker sent something that is not our protocol: %s", error)
            acks.done(message)
            return
        key, name = UnitKey(outcome.key), message.message_id or f"{outcome.key} {outcome.stamp}"
        if self._is_repeat(name, message, acks):
            return
        if self._flight.is_canceled(key, outcome.stamp):
            acks.done(message)
            return
        self._flight.landed(key, outcome.stamp)
        self._offer(name, message, acks, report)

    def receive_failed(self, message: AbstractIncomingMessage, acks: Acks) -> None:
        """Offers a report of a unit that the broker gave up, unless it came before or was canceled."""
        acks.came(message)
        try:
            work = decode(messages.works, message.body)
            unit = decode_unit(work.unit)
        except FrameError as error:
            logger.warning("unit.garbled: dropped one that is not our protocol: %s", error)
            acks.done(message)
            return
        key = key_of(unit)
        name = f"given up {key} {work.stamp}"  # messages of units have no name
        if self._is_repeat(name, message, acks):
            return
        if self._flight.is_canceled(key, work.stamp):
            acks.done(message)
            return
        reason, text = _explain(message)
        logger.warning("unit.given_up: request %s: %s", unit.request_id, text)
        self._flight.landed(key, work.stamp)
        self._offer(name, message, acks, ended_early(unit, reason, text, 0.0))

    def offer(self, report: Report, key: UnitKey, stamp: int) -> None:
        """Offers a report of this side's own, of a unit that was to be published with that stamp."""
        self._flight.landed(key, stamp)
        self._outbox.put(report, self._changed)
        self._changed()

    def _is_repeat(self, name: str, message: AbstractIncomingMessage, acks: Acks) -> bool:
        held = self._held.get(name)
        if held is not None:
            held.message, held.acks = message, acks
        elif name in self._acknowledged:
            acks.done(message)
        else:
            return False
        return True

    def _offer(self, name: str, message: AbstractIncomingMessage, acks: Acks, report: Report) -> None:
        self._held[name] = _Held(message, acks)
        self._outbox.put(report, lambda: self._acknowledge(name))
        self._changed()

    def _acknowledge(self, name: str) -> None:
        held = self._held.pop(name)
        self._acknowledged.note(name, None)
        held.acks.done(held.message)


def _explain(message: AbstractIncomingMessage) -> tuple[Reason, str]:
    deaths = message.headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else {}
    if isinstance(last, dict) and last.get("reason") == "rejected":
        return Reason.INTERNAL, "a worker could not read what it was to do: it is of another version"
    return Reason.LOST, "the worker processes that took this file died, one after the other"
