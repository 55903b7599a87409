"""The worker's books: units leased to it, reports not yet confirmed, cancellations. No I/O.

A transport feeds it with what the server says and carries what it answers (the uplink).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Report, Unit
from servicex_server.queue.stream import Stream

GONE = "the queue's server is gone"


class Uplink(Protocol):
    """The way from a worker to the server. After the connection is lost, calls do nothing."""

    def done(self, number: int, report: Report) -> None: ...

    def release(self, number: int) -> None: ...

    def drain(self) -> None: ...

    async def flush(self) -> None:
        """Waits until the transport can take more."""
        ...


class Inbox:
    """A `WorkSource` over any uplink."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._units: Stream[LeasedUnit] = Stream()
        self._cancellations: Stream[RequestId] = Stream()
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._is_gone = False

    # WorkSource

    @property
    def is_connected(self) -> bool:
        return not self._is_gone

    def units(self) -> AsyncIterator[LeasedUnit]:
        return self._units

    def cancellations(self) -> AsyncIterator[RequestId]:
        return self._cancellations

    async def drain(self) -> None:
        self._uplink.drain()
        self._units.close()
        for delivery in self._units.take_all():
            self._uplink.release(delivery.number)
        await self._uplink.flush()

    # What the server says

    def leased(self, number: int, unit: Unit) -> None:
        if self._units.is_closed:
            self._uplink.release(number)
        else:
            self._units.put(LeasedUnit(unit, number, self))

    def confirmed(self, number: int) -> None:
        future = self._unconfirmed.pop(number, None)
        if future is not None and not future.done():
            future.set_result(None)

    def canceled(self, request_id: RequestId) -> None:
        for delivery in self._units.take_all():
            if delivery.unit.request_id == request_id:
                self._uplink.release(delivery.number)
            else:
                self._units.put(delivery)
        self._cancellations.put(request_id)

    def gone(self) -> None:
        """Ends everything: the server vanished or this side hung up."""
        self._is_gone = True
        self._units.take_all()
        self._units.close()
        self._cancellations.close()
        for future in self._unconfirmed.values():
            if not future.done():
                future.set_exception(ConnectionError(GONE))
        self._unconfirmed.clear()

    # What this worker says

    async def report(self, number: int, report: Report) -> None:
        self._require_connection()
        future = asyncio.get_running_loop().create_future()
        self._unconfirmed[number] = future
        self._uplink.done(number, report)
        await self._uplink.flush()
        await future

    async def release(self, number: int) -> None:
        self._require_connection()
        self._uplink.release(number)
        await self._uplink.flush()

    def _require_connection(self) -> None:
        if self._is_gone:
            raise ConnectionError(GONE)


@dataclass(frozen=True, slots=True, eq=False)
class LeasedUnit:
    """A unit leased to this worker until it reports or gives it back."""

    unit: Unit
    number: int
    inbox: Inbox

    async def report(self, report: Report) -> None:
        await self.inbox.report(self.number, report)

    async def release(self) -> None:
        await self.inbox.release(self.number)
