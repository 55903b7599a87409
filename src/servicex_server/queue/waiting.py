"""Units that wait for a worker: preflight before transforms, requests in turn, each in its own order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.unit import PreflightUnit, Unit


class WaitingUnits:
    """A bounded, fair waiting line. Every operation costs O(1) per unit, however many wait.

    Requests take turns, so that one with 10,000 files does not delay one with a single file.
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
    """One deque per request; the requests' order in the dict is whose turn is next."""

    def __init__(self) -> None:
        self._requests: OrderedDict[RequestId, deque[Unit]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, unit: Unit) -> None:
        self._requests.setdefault(unit.request_id, deque()).append(unit)
        self._length += 1

    def prepend(self, unit: Unit) -> None:
        self._requests.setdefault(unit.request_id, deque()).appendleft(unit)
        self._requests.move_to_end(unit.request_id, last=False)
        self._length += 1

    def take(self) -> Unit | None:
        if not self._requests:
            return None
        request_id, units = next(iter(self._requests.items()))
        unit = units.popleft()
        self._length -= 1
        if units:
            self._requests.move_to_end(request_id)
        else:
            del self._requests[request_id]
        return unit

    def drop(self, request_id: RequestId) -> int:
        dropped = len(self._requests.pop(request_id, ()))
        self._length -= dropped
        return dropped
