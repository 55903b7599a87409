"""Hints between servers of one process: for tests."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

from servicex_server.model.ids import RequestId

MAX_HINTS = 10_000


class HintExchange:
    """Where servers of one process meet; what one member sends all others hear."""

    def __init__(self, *, max_hints: int = MAX_HINTS) -> None:
        self._members: list[MemoryHints] = []
        self._max_hints = max_hints

    def join(self) -> MemoryHints:
        """A new member."""
        member = MemoryHints(self, self._max_hints)
        self._members.append(member)
        return member

    def tell(self, sender: MemoryHints, request_id: RequestId) -> None:
        for member in self._members:
            if member is not sender:
                member.hear(request_id)


class MemoryHints:
    """One member of an exchange. Of two changes of a request it may hear once; old hints are lost first."""

    def __init__(self, exchange: HintExchange, max_hints: int) -> None:
        self._exchange = exchange
        self._max_hints = max_hints
        self._heard: OrderedDict[RequestId, None] = OrderedDict()
        self._something = asyncio.Event()
        self._reader = 0

    async def send(self, request_id: RequestId) -> None:
        self._exchange.tell(self, request_id)

    def hear(self, request_id: RequestId) -> None:
        if not self._reader:
            return
        self._heard[request_id] = None
        if len(self._heard) > self._max_hints:
            self._heard.popitem(last=False)
        self._something.set()

    def hints(self) -> AsyncIterator[RequestId]:
        self._reader += 1
        self._something.set()  # the reader before goes
        return self._read(self._reader)

    async def _read(self, reader: int) -> AsyncIterator[RequestId]:
        while self._reader == reader:
            if self._heard:
                yield self._heard.popitem(last=False)[0]
                continue
            self._something.clear()
            await self._something.wait()
