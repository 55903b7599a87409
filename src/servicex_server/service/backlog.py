"""What this process still has to hand to the queue: hints in memory, rebuilt from the database at start."""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from dataclasses import dataclass

from servicex_server.model.ids import FileId, RequestId


@dataclass(frozen=True, slots=True, order=True)
class Retry:
    """Another attempt at one work unit, not before `due_s` on the event loop's clock."""

    due_s: float
    request_id: RequestId
    file_id: FileId
    entry_start: int


class Backlog:
    """Requests whose units wait to be published, in turns, and retries in the order they fall due."""

    def __init__(self) -> None:
        self._preflights: OrderedDict[RequestId, None] = OrderedDict()
        self._cursors: OrderedDict[RequestId, FileId] = OrderedDict()
        self._retries: list[Retry] = []
        self._something = asyncio.Event()
        self.purge_asked = asyncio.Event()
        """Set when a request was deleted, so that the sweeper removes it soon."""

    def add_preflight(self, request_id: RequestId) -> None:
        """The request's preflight is to be published."""
        self._preflights[request_id] = None
        self._something.set()

    def add_files(self, request_id: RequestId) -> None:
        """Every file of the request that has no outcome is to be published."""
        self._cursors[request_id] = FileId(0)
        self._something.set()

    def add_retry(self, retry: Retry) -> None:
        """One unit is to be published again later."""
        heapq.heappush(self._retries, retry)
        self._something.set()

    def drop(self, request_id: RequestId) -> None:
        """Nothing more of the request is to be published (retries are dropped when they fall due)."""
        self._preflights.pop(request_id, None)
        self._cursors.pop(request_id, None)

    def take_preflight(self) -> RequestId | None:
        """The next request to try, which leaves the backlog."""
        return self._preflights.popitem(last=False)[0] if self._preflights else None

    def next_files(self) -> tuple[RequestId, FileId] | None:
        """The request whose turn it is and the last file of it that was published; it stays."""
        return next(iter(self._cursors.items()), None)

    def advance(self, request_id: RequestId, published: FileId | None) -> None:
        """The request's turn is over: published up to that file, or (None) wholly."""
        if request_id not in self._cursors:
            return
        if published is None:
            del self._cursors[request_id]
        else:
            self._cursors[request_id] = published
            self._cursors.move_to_end(request_id)

    def take_retries(self, now_s: float, limit: int) -> list[Retry]:
        """Retries that are due, which leave the backlog."""
        due: list[Retry] = []
        while self._retries and self._retries[0].due_s <= now_s and len(due) < limit:
            due.append(heapq.heappop(self._retries))
        return due

    @property
    def next_due_s(self) -> float | None:
        """When the next retry falls due, on the event loop's clock."""
        return self._retries[0].due_s if self._retries else None

    @property
    def is_empty(self) -> bool:
        """Nothing waits, not even for its time."""
        return not (self._preflights or self._cursors or self._retries)

    async def wait(self, timeout_s: float | None) -> None:
        """Returns when something was added since the last wait, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._something.wait()
        except TimeoutError:
            return
        finally:
            self._something.clear()
