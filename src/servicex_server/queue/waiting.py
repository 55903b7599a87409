"""Units that wait for a worker: preflight before transforms; users in turn, and the requests of each."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.unit import PreflightUnit, Unit


class WaitingUnits:
    """A bounded, fair waiting line. Every operation costs O(1) per unit, however many wait.

    Users take turns, and so do the requests of each: 10,000 files, in however many requests, do not delay
    somebody else's single file, nor another request of the same user by more than a turn.
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
    """One deque per request; the order in the dicts is whose turn is next."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, OrderedDict[RequestId, deque[Unit]]] = OrderedDict()
        self._owner_of: dict[RequestId, str] = {}
        """Of the requests that have units here."""
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
        self._owners.move_to_end(owner, last=False)
        self._length += 1

    def take(self) -> Unit | None:
        if not self._owners:
            return None
        owner, requests = next(iter(self._owners.items()))
        request_id, units = next(iter(requests.items()))
        unit = units.popleft()
        self._length -= 1
        requests.move_to_end(request_id)
        self._owners.move_to_end(owner)
        if not units:
            self._forget(request_id)
        return unit

    def drop(self, request_id: RequestId) -> int:
        owner = self._owner_of.get(request_id)
        if owner is None:
            return 0
        dropped = len(self._owners[owner][request_id])
        self._forget(request_id)
        self._length -= dropped
        return dropped

    def _find(self, unit: Unit) -> tuple[str, deque[Unit]]:
        """The owner of the unit's request, and its line."""
        owner = self._owner_of.setdefault(unit.request_id, unit.owner)
        requests = self._owners.setdefault(owner, OrderedDict())
        return owner, requests.setdefault(unit.request_id, deque())

    def _forget(self, request_id: RequestId) -> None:
        owner = self._owner_of.pop(request_id)
        requests = self._owners[owner]
        del requests[request_id]
        if not requests:
            del self._owners[owner]
