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
        self._bells: dict[RequestId, dict[asyncio.Event, bool]] = {}  # bell -> whether for results, too
        self.is_dismissing = False
        """The process stops: nobody is to wait any more."""

    @contextmanager
    def watch(self, request_id: RequestId, *, with_results: bool = False) -> Iterator[asyncio.Event]:
        """A bell that rings for each change of the request's state from now on; clear it before each read.

        Args:
            request_id: the request.
            with_results: let it ring for each recorded batch of results, too.
        """
        bell = asyncio.Event()
        self._bells.setdefault(request_id, {})[bell] = with_results
        try:
            yield bell
        finally:
            bells = self._bells[request_id]
            del bells[bell]
            if not bells:
                del self._bells[request_id]

    def ring(self, request_id: RequestId) -> None:
        """Call after a change of state is committed."""
        for bell in self._bells.get(request_id, ()):
            bell.set()

    def ring_results(self, request_id: RequestId) -> None:
        """Call after results are committed, whether or not they changed the state."""
        for bell, with_results in self._bells.get(request_id, {}).items():
            if with_results:
                bell.set()

    def dismiss(self) -> None:
        """Lets everybody who waits, or begins to, answer with what there is: this process stops."""
        self.is_dismissing = True
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    @property
    def watched(self) -> int:
        """How many requests somebody waits for."""
        return len(self._bells)
