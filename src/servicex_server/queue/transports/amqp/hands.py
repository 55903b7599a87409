"""A worker's books: units that it has taken and not reported. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from aio_pika.abc import AbstractIncomingMessage

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Unit
from servicex_server.queue.transports.amqp.memory import Memory
from servicex_server.queue.transports.amqp.message import UnitKey, request_of

_REMEMBERED_REQUESTS = 10_000
_REMEMBERED_UNITS = 10_000


@dataclass(slots=True, eq=False)
class Hand:
    """A unit that this worker took.

    Attributes:
        message: the broker's, to be acknowledged; None once its channel is gone. The broker then offers the
            unit again, to anybody.
        is_canceled: it will not be reported.
    """

    unit: Unit
    key: UnitKey
    stamp: int
    message: AbstractIncomingMessage | None
    is_canceled: bool = False


class Answer(Enum):
    """What to do with a message."""

    TAKE = "take"
    """Work on it."""
    DROP = "drop"
    """Acknowledge it: it was canceled, has ended here, or is in hand already."""
    ADOPTED = "adopted"
    """It is in hand already, and this message now stands for it."""


class Hands:
    """What is in hand, and what is not to be begun (again)."""

    def __init__(self) -> None:
        self._held: dict[UnitKey, Hand] = {}
        self._canceled: Memory[RequestId, int] = Memory(_REMEMBERED_REQUESTS)
        self._ended: Memory[UnitKey, int] = Memory(_REMEMBERED_UNITS)

    def __iter__(self) -> Iterator[Hand]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def consider(self, hand: Hand) -> tuple[Answer, Hand]:
        """Takes the unit, unless there is a reason against it; also the hand that holds it."""
        if hand.stamp <= (self._canceled.find(request_of(hand.key)) or -1):
            return Answer.DROP, hand
        if hand.stamp <= (self._ended.find(hand.key) or -1):
            return Answer.DROP, hand
        held = self._held.get(hand.key)
        if held is None:
            self._held[hand.key] = hand
            return Answer.TAKE, hand
        if held.message is not None:
            return Answer.DROP, held
        held.message, held.stamp = hand.message, hand.stamp
        return Answer.ADOPTED, held

    def ended(self, hand: Hand) -> None:
        """It was reported: should it come again, it is not begun again."""
        self._ended.note(hand.key, hand.stamp)
        self.let_go(hand)

    def let_go(self, hand: Hand) -> None:
        """It is not in hand any more."""
        if self._held.get(hand.key) is hand:
            del self._held[hand.key]

    def cancel(self, request_id: RequestId, stamp: int) -> list[Hand]:
        """Disowns the request's units that were published up to that stamp; returns those."""
        self._canceled.note(request_id, stamp)
        disowned = [it for it in self if it.unit.request_id == request_id and it.stamp <= stamp]
        for hand in disowned:
            hand.is_canceled = True
            self.let_go(hand)
        return disowned
