"""A queue that is there only while this server leads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Unit
from servicex_server.queue.protocol import Queue, ReportDelivery


class TermQueue:
    """Stands for the queue of the current term, so that use cases need not know when one begins and ends."""

    def __init__(self) -> None:
        self._queue: Queue | None = None

    @contextmanager
    def using(self, queue: Queue) -> Iterator[None]:
        """Everything goes to this queue until the context ends."""
        self._queue = queue
        try:
            yield
        finally:
            self._queue = None

    async def publish(self, units: Sequence[Unit]) -> None:
        """As `Queue.publish`.

        Raises:
            Busy: also between two terms.
        """
        if self._queue is None:
            message = "another server leads now; its queue takes the work"
            raise Busy(message)
        await self._queue.publish(units)

    async def cancel(self, request_id: RequestId) -> None:
        """As `Queue.cancel`; between two terms there is nothing to drop."""
        if self._queue is not None:
            await self._queue.cancel(request_id)

    async def reports(self) -> AsyncIterator[ReportDelivery]:
        """As `Queue.reports`, of the current term; ends at once between two."""
        if self._queue is None:
            return
        async for delivery in self._queue.reports():
            yield delivery
