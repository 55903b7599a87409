"""What this process still has to hand to the queue: hints in memory, rebuilt from the database at start."""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from servicex_server.model.ids import FileId, RequestId


@dataclass(frozen=True, slots=True, order=True)
class Retry:
    """Another attempt at one work unit, not before `due_s` on the event loop's clock."""

    due_s: float
    request_id: RequestId
    file_id: FileId
    entry_start: int


class Turn:
    """How far a request's files were published; the same object until the request is dropped."""

    __slots__ = ("active_since", "is_asked_again", "n_files", "position", "request_id")

    def __init__(self, request_id: RequestId) -> None:
        self.request_id = request_id
        self.active_since: datetime | None = None
        """Of the request, when it was first published; a retry that nobody told of shows by another time."""
        self.n_files: int | None = None
        """Of the request, when it was looked at last; files that nobody told of show by another number."""
        self.position = -1
        """Of the last published file."""
        self.is_asked_again = False
        """Files were added since the turn was taken."""


class Backlog:
    """Requests whose units wait to be published, in turns, and retries in the order they fall due."""

    def __init__(self) -> None:
        self._preflights: OrderedDict[RequestId, None] = OrderedDict()
        self._tried: set[RequestId] = set()
        """Requests whose preflight is with the queue."""
        self._asked_again: set[RequestId] = set()
        """Those of them whose preflight was asked for since: files may have been found meanwhile."""
        self._turns: dict[RequestId, Turn] = {}
        self._ring: OrderedDict[RequestId, None] = OrderedDict()
        self._retries: list[Retry] = []
        self._retried: set[tuple[RequestId, FileId, int]] = set()
        """What `_retries` speaks of."""
        self._something = asyncio.Event()
        self.lookups_asked = asyncio.Event()
        """Set when a data set is to be looked up, so that its finder is asked soon."""
        self.purge_asked = asyncio.Event()
        """Set when a request was deleted, so that the sweeper removes it soon."""

    def add_preflight(self, request_id: RequestId) -> None:
        """The request's preflight is to be published, unless it was (since the request was last dropped)."""
        if request_id in self._tried:
            self._asked_again.add(request_id)
        else:
            self._preflights[request_id] = None
            self._something.set()

    def return_preflight(self, request_id: RequestId) -> None:
        """The preflight that was taken could not be published."""
        self._tried.discard(request_id)
        self.add_preflight(request_id)

    def add_files(self, request_id: RequestId) -> None:
        """The request has files that were not published yet (since it was last dropped)."""
        self._tried.discard(request_id)
        self._asked_again.discard(request_id)
        self._turns.setdefault(request_id, Turn(request_id)).is_asked_again = True
        self._ring.setdefault(request_id)
        self._something.set()

    def add_retry(self, retry: Retry) -> None:
        """One unit is to be published again later; if it is already, it stays at that."""
        work = (retry.request_id, retry.file_id, retry.entry_start)
        if work not in self._retried:
            self._retried.add(work)
            heapq.heappush(self._retries, retry)
            self._something.set()

    def drop(self, request_id: RequestId) -> None:
        """Forgets the request, and what was published of it (retries are dropped when they fall due)."""
        self._preflights.pop(request_id, None)
        self._tried.discard(request_id)
        self._asked_again.discard(request_id)
        self._turns.pop(request_id, None)
        self._ring.pop(request_id, None)

    def drop_preflight(self, request_id: RequestId) -> None:
        """The preflight that was taken is not wanted (yet), unless it was asked for since."""
        self._tried.discard(request_id)
        if request_id in self._asked_again:
            self._asked_again.discard(request_id)
            self.add_preflight(request_id)

    def take_preflight(self) -> RequestId | None:
        """The next request to try, which leaves the backlog."""
        if not self._preflights:
            return None
        request_id = self._preflights.popitem(last=False)[0]
        self._tried.add(request_id)
        self._asked_again.discard(request_id)
        return request_id

    def next_turn(self) -> Turn | None:
        """The request whose turn it is; it stays in the backlog until `advance` or `end_turn`."""
        request_id = next(iter(self._ring), None)
        if request_id is None:
            return None
        turn = self._turns[request_id]
        turn.is_asked_again = False
        return turn

    def advance(self, turn: Turn, position: int, *, is_last: bool) -> None:
        """Files up to that position are published, which are all for now or not; others go first."""
        if self._turns.get(turn.request_id) is not turn:
            return  # dropped meanwhile
        turn.position = position
        if is_last and not turn.is_asked_again:
            self._ring.pop(turn.request_id, None)
        else:
            self._ring.move_to_end(turn.request_id)

    def end_turn(self, turn: Turn) -> None:
        """Drops the request, unless it came back meanwhile."""
        if self._turns.get(turn.request_id) is turn:
            self.drop(turn.request_id)

    def clear(self) -> None:
        """Forgets everything: another process leads."""
        for held in (
            self._preflights,
            self._tried,
            self._asked_again,
            self._turns,
            self._ring,
            self._retries,
            self._retried,
        ):
            held.clear()

    def knows(self, request_id: RequestId, active_since: datetime, n_files: int) -> bool:
        """Whether the request, as it is since that time and with so many files, was added and not dropped."""
        turn = self._turns.get(request_id)
        if turn is not None:
            is_awaited = request_id in self._ring
            return turn.active_since in {None, active_since} and (is_awaited or turn.n_files == n_files)
        return request_id in self._tried or request_id in self._preflights

    @property
    def known(self) -> set[RequestId]:
        """Every request that was added and not dropped."""
        return {*self._preflights, *self._tried, *self._turns}

    def take_retries(self, now_s: float, limit: int) -> list[Retry]:
        """Retries that are due, which leave the backlog."""
        due: list[Retry] = []
        while self._retries and self._retries[0].due_s <= now_s and len(due) < limit:
            retry = heapq.heappop(self._retries)
            self._retried.discard((retry.request_id, retry.file_id, retry.entry_start))
            due.append(retry)
        return due

    @property
    def next_due_s(self) -> float | None:
        """When the next retry falls due, on the event loop's clock."""
        return self._retries[0].due_s if self._retries else None

    @property
    def is_empty(self) -> bool:
        """Nothing waits, not even for its time."""
        return not (self._preflights or self._ring or self._retries)

    async def wait(self, timeout_s: float | None) -> None:
        """Returns when something was added since the last wait, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._something.wait()
        except TimeoutError:
            return
        finally:
            self._something.clear()
