"""Wakes those who wait for a request to change, without asking the database again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from servicex_server.model.ids import RequestId


class Notifier:
    """Change bells of requests inside one process.

    To miss nothing: take the bell, then read the state, then wait on the bell.
    """

    def __init__(self) -> None:
        self._bells: dict[RequestId, set[asyncio.Event]] = {}

    @contextmanager
    def watch(self, request_id: RequestId) -> Iterator[asyncio.Event]:
        """A bell that rings for each change of the request's state from now on; clear it before each read."""
        bell = asyncio.Event()
        self._bells.setdefault(request_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells[request_id]
            bells.discard(bell)
            if not bells:
                del self._bells[request_id]

    def ring(self, request_id: RequestId) -> None:
        """Call after a change of state is committed."""
        for bell in self._bells.get(request_id, ()):
            bell.set()

    @property
    def watched(self) -> int:
        """How many requests somebody waits for."""
        return len(self._bells)
