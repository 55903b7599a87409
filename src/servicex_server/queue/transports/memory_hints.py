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

    async def send(self, request_id: RequestId) -> None:
        self._exchange.tell(self, request_id)

    def hear(self, request_id: RequestId) -> None:
        self._heard[request_id] = None
        if len(self._heard) > self._max_hints:
            self._heard.popitem(last=False)
        self._something.set()

    async def hints(self) -> AsyncIterator[RequestId]:
        while True:
            if self._heard:
                yield self._heard.popitem(last=False)[0]
                continue
            self._something.clear()
            await self._something.wait()
