"""The queue inside one process: for tests, and for anything that wants no worker processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Report, Unit
from servicex_server.queue.desk import DEFAULT_MAX_REPORTS, DEFAULT_MAX_UNITS, LeaseDesk, Session
from servicex_server.queue.inbox import Inbox
from servicex_server.queue.outbox import ReportInHand


class MemoryQueue:
    """Both sides of the queue without I/O; a worker that leaves `connect` loses what it holds."""

    def __init__(self, *, max_units: int = DEFAULT_MAX_UNITS, max_reports: int = DEFAULT_MAX_REPORTS) -> None:
        self._desk = LeaseDesk(max_units=max_units, max_reports=max_reports)
        self._lines: set[_Line] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._desk.close()
        for line in list(self._lines):
            line.drop()

    async def publish(self, units: Sequence[Unit]) -> None:
        self._desk.publish(units)

    async def cancel(self, request_id: RequestId) -> None:
        self._desk.cancel(request_id)

    def reports(self) -> AsyncIterator[ReportInHand]:
        return self._desk.outbox.deliveries()

    @asynccontextmanager
    async def connect(self, slots: int) -> AsyncIterator[Inbox]:
        """The worker's side with that many slots."""
        line = _Line(self._desk, slots)
        self._lines.add(line)
        try:
            yield line.inbox
        finally:
            self._lines.discard(line)
            line.drop()


class _Line:
    """One worker's connection: outlet and uplink at once."""

    def __init__(self, desk: LeaseDesk, slots: int) -> None:
        self._desk = desk
        self.inbox = Inbox(self)
        self._session: Session = desk.attach(_Outlet(self), slots)

    def drop(self) -> None:
        self._desk.detach(self._session)
        self.inbox.gone()

    def done(self, number: int, report: Report) -> None:
        self._desk.done(self._session, number, report)

    def release(self, number: int) -> None:
        self._desk.release(self._session, number)

    def drain(self) -> None:
        self._desk.drain(self._session)

    async def flush(self) -> None:
        """Nothing is ever buffered here."""


class _Outlet:
    def __init__(self, line: _Line) -> None:
        self._line = line

    def lease(self, number: int, unit: Unit) -> None:
        self._line.inbox.leased(number, unit)

    def confirm(self, number: int) -> None:
        self._line.inbox.confirmed(number)

    def cancel(self, request_id: RequestId) -> None:
        self._line.inbox.canceled(request_id)

    def drop(self) -> None:
        self._line.drop()
