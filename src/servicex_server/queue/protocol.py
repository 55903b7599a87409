"""The port between the server, which knows what is to be done, and the workers, who do it.

The server's side is a `Queue`, the worker's side a `WorkSource`; `Hints` go between servers. Delivery of
units and reports is at least once; the database makes repeats harmless. The queue never decides about
retries: when a worker vanishes with a unit in hand, the server hears a `FileFailed` with reason `lost` and
decides. A broker first gives the unit to other workers, a few times; then the server hears the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Report, Unit


class ReportDelivery(Protocol):
    """A report that stays with the transport until it is acknowledged."""

    @property
    def report(self) -> Report: ...

    async def ack(self) -> None:
        """Call after the report is durably recorded; the transport then forgets it."""
        ...


class Queue(Protocol):
    """The server's side."""

    async def publish(self, units: Sequence[Unit]) -> None:
        """Offers units to workers: preflight first, then requests in turn, each in the given order.

        Raises:
            Busy: the queue is at its bound; none of the units was taken.
        """
        ...

    async def cancel(self, request_id: RequestId) -> None:
        """Drops waiting units of the request and tells workers to abandon running ones.

        No reports of them follow; those of units that had ended before may still come.
        """
        ...

    def reports(self) -> AsyncIterator[ReportDelivery]:
        """What workers say, as it comes, beginning with what was not acknowledged; ends with the queue.

        There is one reader at a time: a new call takes over from the one before.
        """
        ...


class UnitDelivery(Protocol):
    """A unit leased to this worker until it reports or gives it back."""

    @property
    def unit(self) -> Unit: ...

    async def report(self, report: Report) -> None:
        """Hands the outcome over; returns once the server's side (or the broker) has it in safe hands.

        Raises:
            ConnectionError: the server is gone; it may or may not have heard the report. (With a broker: this
                side hung up. Its absence is waited for.)
        """
        ...

    async def release(self) -> None:
        """Gives the unit back untouched (graceful drain); another worker gets it, no attempt is counted.

        Units of a canceled request are forgotten instead, so this also ends abandoned work.

        Raises:
            ConnectionError: the server is gone.
        """
        ...


class WorkSource(Protocol):
    """The worker's side."""

    @property
    def is_connected(self) -> bool:
        """False once the server is gone (with a broker: once this side hung up)."""
        ...

    def units(self) -> AsyncIterator[UnitDelivery]:
        """Units as they are leased, never more at once than announced slots.

        A transport may give preflights beyond that, so that they do not wait for long transforms.

        Ends when the server goes, or after `drain`.
        """
        ...

    def cancellations(self) -> AsyncIterator[RequestId]:
        """Requests whose running units this worker is to abandon, without a report."""
        ...

    async def drain(self) -> None:
        """Asks for no further units; those leased but not yet taken from `units()` are given back."""
        ...


class Crew(Protocol):
    """The workers, as a server sees them that need not lead."""

    @property
    def is_absent(self) -> bool:
        """No worker is connected; false also while that is not known."""
        ...


class Hints(Protocol):
    """What the servers of one deployment tell each other: "this request changed". Hints may be lost."""

    async def send(self, request_id: RequestId) -> None:
        """Tells the other servers. Never raises because nobody can be told, and never waits for long."""
        ...

    def hints(self) -> AsyncIterator[RequestId]:
        """What others sent, and perhaps what this server sent itself; ends with the transport.

        There is one reader. Of several hints at a request that were not yet read it may hear one. While the
        transport is cut off, nothing comes; after it is back, what was sent meanwhile may be missing.
        """
        ...
