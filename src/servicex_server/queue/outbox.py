"""Reports on their way to the server's consumer, kept until it has recorded them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from servicex_server.model.unit import Report
from servicex_server.queue.stream import Stream


class Outbox:
    """Holds every report until it is acknowledged; a new reader is offered all that are still unacknowledged.

    Its bound is the desk's: nothing is leased while too many reports wait here.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._held: dict[int, ReportInHand] = {}
        self._stream: Stream[ReportInHand] = Stream()
        self._is_closed = False

    def __len__(self) -> int:
        """How many reports are not acknowledged."""
        return len(self._held)

    def put(self, report: Report, on_ack: Callable[[], None]) -> None:
        """Offers a report; `on_ack` is called once, when the consumer has it in safe hands."""
        delivery = ReportInHand(report, next(self._numbers), on_ack, self)
        self._held[delivery.number] = delivery
        self._stream.put(delivery)

    def deliveries(self) -> Stream[ReportInHand]:
        """Unacknowledged reports, then new ones; takes over from an earlier reader, whose stream ends."""
        self._stream.take_all()
        self._stream.close()
        self._stream = Stream(self._held.values())
        if self._is_closed:
            self._stream.close()
        return self._stream

    def forget(self, delivery: ReportInHand) -> None:
        """Takes note of an acknowledgement; repeats are harmless."""
        if self._held.pop(delivery.number, None) is not None:
            delivery.on_ack()

    def close(self) -> None:
        """Lets readers finish what is there, then stop."""
        self._is_closed = True
        self._stream.close()


@dataclass(frozen=True, slots=True, eq=False)
class ReportInHand:
    """A report that the outbox holds until it is acknowledged."""

    report: Report
    number: int
    on_ack: Callable[[], None]
    outbox: Outbox

    async def ack(self) -> None:
        self.outbox.forget(self)
