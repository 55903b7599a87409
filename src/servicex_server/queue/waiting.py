"""Units that wait for a worker: preflight before transforms; users in turn, and the requests of each."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence

from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.unit import PreflightUnit, Unit

_REMEMBERED_USERS = 10_000
_VOID_ENTRIES = 64


class WaitingUnits:
    """A bounded, fair waiting line. What an operation costs does not depend on how many units wait.

    The user who was served longest ago comes next, and the requests of each take turns: 10,000 files, in
    however many requests, delay somebody else's single file by the one that is being worked on.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._preflight = _Lane()
        self._transform = _Lane()

    def __len__(self) -> int:
        return len(self._preflight) + len(self._transform)

    def add(self, units: Sequence[Unit]) -> None:
        """Appends the units.

        Raises:
            Busy: they do not fit below the bound; none was taken.
        """
        if len(self) + len(units) > self._limit:
            message = (
                f"{len(self)} units of work are waiting and {len(units)} more would exceed the bound of "
                f"{self._limit}; try again when some are done"
            )
            raise Busy(message)
        for unit in units:
            self._lane_of(unit).append(unit)

    def give_back(self, unit: Unit) -> None:
        """Puts a unit that was taken in front of all others of its kind."""
        self._lane_of(unit).prepend(unit)

    def take(self) -> Unit | None:
        """Removes and returns the unit whose turn it is, or None."""
        return self.take_preflight() or self.take_transform()

    def take_preflight(self) -> Unit | None:
        """Removes and returns the preflight whose turn it is, or None."""
        return self._preflight.take()

    def take_transform(self) -> Unit | None:
        """Removes and returns the transform whose turn it is, or None."""
        return self._transform.take()

    def drop(self, request_id: RequestId) -> int:
        """Removes all units of the request; returns how many."""
        return self._preflight.drop(request_id) + self._transform.drop(request_id)

    def _lane_of(self, unit: Unit) -> _Lane:
        return self._preflight if isinstance(unit, PreflightUnit) else self._transform


class _Lane:
    """One deque per request, the requests of a user in a ring, the users by who was served longest ago."""

    def __init__(self) -> None:
        self._owners: dict[str, OrderedDict[RequestId, deque[Unit]]] = {}
        """The order of requests is whose turn is next."""
        self._owner_of: dict[RequestId, str] = {}
        """Of the requests that have units here."""
        self._line: list[tuple[int, int, str]] = []
        """Users by when they were last served, then by when they came; entries of other numbers are void."""
        self._numbers: dict[str, int] = {}
        self._last_number = 0
        self._served: OrderedDict[str, int] = OrderedDict()
        """When users were last served, also those who have no units here now."""
        self._n_served = 0
        self._n_given_back = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, unit: Unit) -> None:
        self._find(unit)[1].append(unit)
        self._length += 1

    def prepend(self, unit: Unit) -> None:
        owner, units = self._find(unit)
        units.appendleft(unit)
        self._owners[owner].move_to_end(unit.request_id, last=False)
        self._n_given_back += 1
        self._place(owner, -self._n_given_back)
        self._length += 1

    def take(self) -> Unit | None:
        while self._line:
            _, number, owner = heapq.heappop(self._line)
            if self._numbers.get(owner) == number:
                return self._serve(owner)
        return None

    def drop(self, request_id: RequestId) -> int:
        owner = self._owner_of.get(request_id)
        if owner is None:
            return 0
        dropped = len(self._owners[owner][request_id])
        self._forget(request_id)
        self._length -= dropped
        return dropped

    def _serve(self, owner: str) -> Unit:
        requests = self._owners[owner]
        request_id, units = next(iter(requests.items()))
        unit = units.popleft()
        self._length -= 1
        requests.move_to_end(request_id)
        self._n_served += 1
        self._served[owner] = self._n_served
        self._served.move_to_end(owner)
        if len(self._served) > _REMEMBERED_USERS:
            self._served.popitem(last=False)
        self._place(owner, self._n_served)
        if not units:
            self._forget(request_id)
        return unit

    def _place(self, owner: str, place: int) -> None:
        self._last_number += 1
        self._numbers[owner] = self._last_number
        heapq.heappush(self._line, (place, self._last_number, owner))
        if len(self._line) > 2 * len(self._numbers) + _VOID_ENTRIES:
            self._line = [entry for entry in self._line if self._numbers.get(entry[2]) == entry[1]]
            heapq.heapify(self._line)

    def _find(self, unit: Unit) -> tuple[str, deque[Unit]]:
        """The owner of the unit's request, and its line."""
        owner = self._owner_of.setdefault(unit.request_id, unit.owner)
        if owner not in self._owners:
            self._owners[owner] = OrderedDict()
            self._place(owner, self._served.get(owner, 0))
        return owner, self._owners[owner].setdefault(unit.request_id, deque())

    def _forget(self, request_id: RequestId) -> None:
        owner = self._owner_of.pop(request_id)
        requests = self._owners[owner]
        del requests[request_id]
        if not requests:
            del self._owners[owner]
            del self._numbers[owner]
