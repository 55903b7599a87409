"""Who works on what: the server's books of waiting units, leases and reports. No I/O.

A transport attaches one session per connected worker and tells the desk what the worker says; the desk
answers through the session's outlet. All calls come from one event loop and none blocks.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Reason, Report, Unit
from servicex_server.queue.frame import FrameError
from servicex_server.queue.outbox import Outbox
from servicex_server.queue.outcome import ended_early
from servicex_server.queue.waiting import WaitingUnits

logger = logging.getLogger(__name__)

LOST = "the worker process died while working on this file"

DEFAULT_MAX_UNITS = 1_000_000
DEFAULT_MAX_REPORTS = 10_000


class Outlet(Protocol):
    """The way from the desk to one worker. Calls never block."""

    def lease(self, number: int, unit: Unit) -> None:
        """Hands a unit to the worker.

        Raises:
            FrameError: the transport cannot carry a unit of this size.
        """
        ...

    def confirm(self, number: int) -> None:
        """Tells the worker that the report of this lease is in safe hands."""
        ...

    def cancel(self, request_id: RequestId) -> None:
        """Tells the worker to abandon the request's units."""
        ...

    def drop(self) -> None:
        """Cuts the connection; the transport detaches the session in due course."""
        ...


@dataclass(slots=True)
class Lease:
    """A unit in the hands of a worker."""

    unit: Unit
    started: float
    leased_s: float
    is_canceled: bool = False


@dataclass(slots=True, eq=False)
class Session:
    """One connected worker as the desk sees it.

    Attributes:
        working: leases by number that the worker has neither reported nor released.
        unconfirmed: leases that it reported, but whose reports the consumer has not acknowledged.
        heard_s: when it last said anything, on the desk's own clock.
    """

    outlet: Outlet
    slots: int
    heard_s: float
    working: dict[int, Lease] = field(default_factory=dict)
    unconfirmed: set[int] = field(default_factory=set)
    is_draining: bool = False

    @property
    def has_room(self) -> bool:
        """A slot is free; and a consumer that has stalled stalls the worker before reports pile up."""
        return (
            not self.is_draining
            and len(self.working) < self.slots
            and len(self.unconfirmed) < 64 + 4 * self.slots
        )


class LeaseDesk:
    """Matches waiting units with workers' free slots and keeps every unit in exactly one place.

    Time passes only by `pass_time`, in bounded steps: a server that was stopped for an hour (Ctrl-Z)
    does not conclude from its own absence that all workers are gone.
    """

    def __init__(
        self,
        *,
        max_units: int = DEFAULT_MAX_UNITS,
        max_reports: int = DEFAULT_MAX_REPORTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outbox = Outbox()
        self._waiting = WaitingUnits(max_units)
        self._max_reports = max_reports
        self._clock = clock
        self._awake_s = 0.0
        self._numbers = count(1)
        self._sessions: set[Session] = set()
        self._with_room: OrderedDict[Session, None] = OrderedDict()
        self._is_closed = False

    @property
    def n_slots(self) -> int:
        """Slots of all connected workers that still take units."""
        return sum(session.slots for session in self._sessions if not session.is_draining)

    @property
    def n_waiting(self) -> int:
        """Units that wait for a worker."""
        return len(self._waiting)

    @property
    def n_leased(self) -> int:
        """Units in the hands of workers."""
        return sum(len(session.working) for session in self._sessions)

    # What the server says

    def publish(self, units: Sequence[Unit]) -> None:
        """Adds units to the waiting line; raises Busy if they do not fit."""
        self._waiting.add(units)
        self._assign()

    def cancel(self, request_id: RequestId) -> None:
        """Forgets the request's waiting units and disowns its leases."""
        self._waiting.drop(request_id)
        for session in self._sessions:
            leases = [it for it in session.working.values() if it.unit.request_id == request_id]
            for lease in leases:
                lease.is_canceled = True
            if leases:
                session.outlet.cancel(request_id)

    def close(self) -> None:
        """Ends all: no leases from here on, no report about workers that go."""
        self._is_closed = True
        self.outbox.close()

    # What workers say

    def attach(self, outlet: Outlet, slots: int) -> Session:
        """Welcomes a worker with that many slots."""
        session = Session(outlet, slots, heard_s=self._awake_s)
        self._sessions.add(session)
        self._consider(session)
        return session

    def detach(self, session: Session) -> None:
        """Takes note that a worker has gone; what it held is reported as lost."""
        self._sessions.discard(session)
        self._with_room.pop(session, None)
        leases, session.working = list(session.working.values()), {}
        for lease in leases:
            if not (lease.is_canceled or self._is_closed):
                self._report(ended_early(lease.unit, Reason.LOST, LOST, self._clock() - lease.started))

    def heard(self, session: Session) -> None:
        """Takes note that the worker is alive."""
        session.heard_s = self._awake_s

    def done(self, session: Session, number: int, report: Report) -> None:
        """Takes the report of a lease; one that is not (or no longer) the worker's is dropped."""
        lease = session.working.pop(number, None)
        if lease is None or lease.is_canceled:
            session.outlet.confirm(number)
        else:
            session.unconfirmed.add(number)
            self.outbox.put(report, lambda: self._confirm(session, number))
        self._consider(session)

    def release(self, session: Session, number: int) -> None:
        """Puts the unit of a lease back in front of the waiting line, unless it was canceled."""
        lease = session.working.pop(number, None)
        if lease is not None and not lease.is_canceled:
            self._waiting.give_back(lease.unit)
        self._consider(session)

    def drain(self, session: Session) -> None:
        """Gives the worker no further units."""
        session.is_draining = True
        self._consider(session)

    # Time

    def pass_time(self, seconds: float, *, silence_s: float, grace_s: float) -> None:
        """Lets time pass and cuts off workers that are silent, or sit on a unit far past its deadline."""
        self._awake_s += seconds
        for session in list(self._sessions):
            if self._awake_s - session.heard_s > silence_s:
                logger.warning("worker.silent: nothing heard for %.0f s; treated as gone", silence_s)
                session.outlet.drop()
            elif any(
                self._awake_s - lease.leased_s > lease.unit.deadline_s + grace_s
                for lease in session.working.values()
            ):
                logger.warning(
                    "worker.overdue: holds a unit %.0f s past its deadline; treated as gone", grace_s
                )
                session.outlet.drop()

    # Inside

    def _consider(self, session: Session) -> None:
        if session.has_room and session in self._sessions:
            self._with_room.setdefault(session)
        else:
            self._with_room.pop(session, None)
        self._assign()

    def _assign(self) -> None:
        while self._with_room and not self._is_closed and len(self.outbox) < self._max_reports:
            unit = self._waiting.take()
            if unit is None:
                return
            session = next(iter(self._with_room))
            self._lease(session, unit)
            if session.has_room:
                self._with_room.move_to_end(session)
            else:
                self._with_room.pop(session, None)

    def _lease(self, session: Session, unit: Unit) -> None:
        number = next(self._numbers)
        session.working[number] = Lease(unit, self._clock(), self._awake_s)
        try:
            session.outlet.lease(number, unit)
        except FrameError as error:
            del session.working[number]
            self._report(ended_early(unit, Reason.INTERNAL, f"cannot be given to a worker: {error}", 0.0))

    def _report(self, report: Report) -> None:
        self.outbox.put(report, self._assign)

    def _confirm(self, session: Session, number: int) -> None:
        session.unconfirmed.discard(number)
        if session in self._sessions:
            session.outlet.confirm(number)
        self._consider(session)
