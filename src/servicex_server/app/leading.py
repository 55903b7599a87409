"""The queue of a process that leads for some of the time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Unit
from servicex_server.queue.protocol import Queue, ReportDelivery


class LeadersQueue:
    """A `Queue` that is there while this process leads; what waits begins anew with each term."""

    def __init__(self) -> None:
        self._queue: Queue | None = None

    @contextmanager
    def held(self, queue: Queue) -> Iterator[None]:
        """Works on that queue while the context lasts."""
        self._queue = queue
        try:
            yield
        finally:
            self._queue = None

    async def publish(self, units: Sequence[Unit]) -> None:
        await self._required().publish(units)

    async def cancel(self, request_id: RequestId) -> None:
        # Whoever leads next finds the request ended, and publishes nothing of it.
        if self._queue is not None:
            await self._queue.cancel(request_id)

    def reports(self) -> AsyncIterator[ReportDelivery]:
        return self._required().reports()

    def _required(self) -> Queue:
        if self._queue is None:
            message = "another server leads now, and offers the work"
            raise Busy(message)
        return self._queue
