"""A closable stream of items inside one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")


class Stream(AsyncIterator[T]):
    """Items in the order they were put; iteration ends once the stream is closed and empty.

    It has no bound of its own: whoever puts knows why there cannot be many items.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = deque(items)
        self._changed = asyncio.Event()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def put(self, item: T) -> None:
        """Appends an item; on a closed stream it is dropped."""
        if not self._is_closed:
            self._items.append(item)
            self._changed.set()

    def take_all(self) -> list[T]:
        """Removes and returns what has not been read."""
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """Lets readers finish what is there, then stop."""
        self._is_closed = True
        self._changed.set()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._is_closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()
