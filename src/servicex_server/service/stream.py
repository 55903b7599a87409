"""The open event streams of this process: a bounded number, for each user and in all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from servicex_server.errors import Busy
from servicex_server.telemetry.metrics import HTTP_STREAMS


class Streams:
    """Counts streams, and tells them when all have to end.

    Args:
        total: bound on streams of all users.
        per_user: bound on those of one user.

    Attributes:
        closing: set when the process stops; clients then go on elsewhere, or later.
    """

    def __init__(self, *, total: int = 1000, per_user: int = 32) -> None:
        self._total = total
        self._per_user = per_user
        self._open: Counter[str] = Counter()
        self.closing = asyncio.Event()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def open(self, user: str) -> Iterator[None]:
        """Holds one place while the context lasts.

        Raises:
            Busy: there is none left.
        """
        if self._open[user] >= self._per_user:
            message = (
                f"you follow {self._per_user} requests already, which is the bound for one user (setting "
                "event_streams_per_user); close some"
            )
            raise Busy(message)
        if len(self) >= self._total:
            message = (
                f"{self._total} event streams are open, which is the bound (setting event_streams); try later"
            )
            raise Busy(message)
        self._open[user] += 1
        HTTP_STREAMS.inc()
        try:
            yield
        finally:
            HTTP_STREAMS.dec()
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]

    def close(self) -> None:
        """Ends all streams."""
        self.closing.set()
