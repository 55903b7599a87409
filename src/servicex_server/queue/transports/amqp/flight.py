"""The leader's books: which units are with the broker or a worker, and what workers say. No I/O.

The broker never holds more than a little. What it holds can be lost with it, so the leader compares: a unit
that lies ready nowhere and is in nobody's hands for a while is offered again. A repeat is harmless.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import Unit
from servicex_server.queue.transports.amqp.memory import Memory
from servicex_server.queue.transports.amqp.message import (
    Cancel,
    Heartbeat,
    UnitKey,
    is_preflight,
    key_of,
    request_of,
)
from servicex_server.queue.transports.amqp.pace import Pace

MAX_WORKERS = 10_000
_REMEMBERED_REQUESTS = 10_000
_REMEMBERED_UNITS = 20_000


@dataclass(slots=True, eq=False)
class Flying:
    """A unit that was published and has not ended.

    Attributes:
        stamp: of its publication.
        seen_s: when it was last known to be somewhere, in awake time.
        is_confirmed: the broker has it.
    """

    unit: Unit
    stamp: int
    seen_s: float
    is_confirmed: bool = False


@dataclass(slots=True, eq=False)
class Worker:
    """What a worker last said, and when, in awake time."""

    slots: int
    hands: dict[UnitKey, int]
    heard_s: float
    since: dict[UnitKey, float] = field(default_factory=dict)

    @property
    def capacity(self) -> int:
        """Transforms that it has or could have in hand."""
        return max(self.slots, sum(not is_preflight(key) for key in self.hands))


class Flight:
    """Published units until they end.

    Time passes only by `pass_time`, while the broker can be heard: an outage, or a stop of this process, is
    no silence of the workers.

    Args:
        silence_s: a worker that was not heard for so long has nothing in hand any more.
        grace_s: a unit that was seen nowhere for so long is offered again.
        overdue_s: so does one that a worker holds that long past its deadline.
        max_preflights: with the broker at once.
    """

    def __init__(
        self,
        *,
        silence_s: float,
        grace_s: float,
        overdue_s: float = 300.0,
        max_preflights: int = 100,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._silence_s = silence_s
        self._grace_s = grace_s
        self._overdue_s = overdue_s
        self._max_preflights = max_preflights
        self._pace = pace or Pace()
        self._clock = clock
        self._wall_ns = wall_ns
        self._awake_s = 0.0
        self._last_stamp = 0
        self._outage_stamp = 0
        self._flying: dict[UnitKey, Flying] = {}
        self._n_preflights = 0
        self._workers: dict[str, Worker] = {}
        self._holders: dict[UnitKey, dict[str, int]] = {}
        self._n_slots = self._capacity = 0
        self._canceled: Memory[RequestId, int] = Memory(_REMEMBERED_REQUESTS)
        self._ended: Memory[UnitKey, None] = Memory(_REMEMBERED_UNITS)
        self._landed: Memory[UnitKey, int] = Memory(_REMEMBERED_UNITS)

    def __len__(self) -> int:
        return len(self._flying)

    @property
    def n_slots(self) -> int:
        """Slots of all workers that still take units."""
        return self._n_slots

    # What may be published

    @property
    def has_room_for_transform(self) -> bool:
        """Another transform would not lie with the broker for long. Without workers none is published."""
        if self._capacity == 0:
            return False
        return len(self._flying) - self._n_preflights < self._capacity + self._pace.ahead(self._clock())

    @property
    def has_room_for_preflight(self) -> bool:
        return self._n_preflights < self._max_preflights

    def expect(self, units: Iterable[Unit]) -> None:
        """Takes note that the units are wanted, also those whose like ended before."""
        for unit in units:
            self._ended.forget(key_of(unit))

    def admit(self, unit: Unit) -> Flying | None:
        """The unit to be published now; None if it has ended meanwhile, or is under way already."""
        key = key_of(unit)
        if key in self._ended or key in self._flying:
            return None
        flying = Flying(unit, self._next_stamp(), self._awake_s)
        self._flying[key] = flying
        self._n_preflights += is_preflight(key)
        if self._is_in_hand(key):
            flying.is_confirmed = True
            return None
        return flying

    # What happened to it

    def landed(self, key: UnitKey, stamp: int) -> None:
        """Its report was heard, or it is given up, as it was published with that stamp."""
        self._ended.note(key, None)
        self._landed.note(key, max(stamp, self._landed.find(key) or stamp))
        if self._remove(key):
            self._pace.ended(self._clock())

    def cancel(self, request_id: RequestId) -> Cancel:
        """Disowns the request's units; what to tell the workers."""
        stamp = self._next_stamp()
        self._canceled.note(request_id, stamp)
        for key in [key for key in self._flying if request_of(key) == request_id]:
            self._remove(key)
        return Cancel(request_id, stamp)

    def is_canceled(self, key: UnitKey, stamp: int) -> bool:
        """The unit was published before its request was canceled."""
        return stamp <= (self._canceled.find(request_of(key)) or -1)

    def heard(self, heartbeat: Heartbeat) -> list[Cancel]:
        """Takes note of what a worker says; cancellations that it missed."""
        if heartbeat.is_last:
            self._replace(heartbeat.worker, None)
            return []
        known = self._workers.get(heartbeat.worker)
        if known is None and len(self._workers) >= MAX_WORKERS:
            return []
        hands = {UnitKey(key): stamp for key, stamp in heartbeat.hands}
        since = known.since if known is not None else {}
        since = {key: since.get(key, self._awake_s) for key in hands}
        self._replace(heartbeat.worker, Worker(heartbeat.slots, hands, self._awake_s, since))
        missed = {request_of(key) for key, stamp in hands.items() if self.is_canceled(key, stamp)}
        return [Cancel(it, self._canceled.find(it) or 0) for it in missed]

    # Time

    def pass_time(self, seconds: float) -> int:
        """Lets time pass; how many workers were given up because of their silence."""
        self._awake_s += seconds
        oldest_s = self._awake_s - self._silence_s
        silent = [name for name, worker in self._workers.items() if worker.heard_s < oldest_s]
        for name in silent:
            for key in self._workers[name].hands:
                if key in self._flying:
                    self._flying[key].seen_s = oldest_s
            self._replace(name, None)
        return len(silent)

    def take_missing(self, n_ready: int) -> list[Unit]:
        """Removes and returns units that were nowhere for too long.

        Args:
            n_ready: how many units and reports lie ready with the broker. Queues are served in order, so that
                these are taken for the units published last.
        """
        held = self._held()
        adrift = [(key, it) for key, it in self._flying.items() if it.is_confirmed and key not in held]
        n_missing = max(0, len(adrift) - n_ready)
        for key in held:
            if key in self._flying:
                self._flying[key].seen_s = self._awake_s
        for _, flying in adrift[n_missing:]:
            flying.seen_s = self._awake_s
        late = [key for key, it in adrift[:n_missing] if self._awake_s - it.seen_s > self._grace_s]
        return self._take(late)

    def interrupted(self) -> None:
        """Takes note of an outage: the broker holds nothing any more of what was published before."""
        self._outage_stamp = self._next_stamp()

    def take_unheld(self) -> list[Unit]:
        """Removes and returns units that were published before the last outage and are in nobody's hands."""
        held = self._held()
        return self._take(
            [key for key, it in self._flying.items() if it.stamp < self._outage_stamp and key not in held]
        )

    # Inside

    def _take(self, keys: list[UnitKey]) -> list[Unit]:
        units = [self._flying[key].unit for key in keys]
        for key in keys:
            self._remove(key)
        return units

    def _held(self) -> set[UnitKey]:
        held = set()
        for worker in self._workers.values():
            for key, since_s in worker.since.items():
                flying = self._flying.get(key)
                if flying is None or self._awake_s - since_s < flying.unit.deadline_s + self._overdue_s:
                    held.add(key)
        return held

    def _is_in_hand(self, key: UnitKey) -> bool:
        """Whether a worker has it; what one said before it reported does not count any more."""
        over = max(self._canceled.find(request_of(key)) or -1, self._landed.find(key) or -1)
        return any(stamp > over for stamp in self._holders.get(key, {}).values())

    def _replace(self, name: str, worker: Worker | None) -> None:
        old = self._workers.pop(name, None)
        for key in old.hands if old is not None else ():
            holders = self._holders[key]
            del holders[name]
            if not holders:
                del self._holders[key]
        if worker is not None:
            self._workers[name] = worker
            for key, stamp in worker.hands.items():
                self._holders.setdefault(key, {})[name] = stamp
        for sign, it in ((-1, old), (1, worker)):
            if it is not None:
                self._n_slots += sign * it.slots
                self._capacity += sign * it.capacity

    def _remove(self, key: UnitKey) -> bool:
        if self._flying.pop(key, None) is None:
            return False
        self._n_preflights -= is_preflight(key)
        return True

    def _next_stamp(self) -> int:
        self._last_stamp = max(self._last_stamp + 1, self._wall_ns() // 1000)
        return self._last_stamp
