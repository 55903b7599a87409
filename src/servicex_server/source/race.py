"""Several things begun in turn, of which the first that is done counts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Contest(Generic[T]):
    """Works on each that enters in a thread of its own. Bounded by what the work itself is bounded by."""

    def __init__(self, work: Callable[[T], None], discard: Callable[[T], None]) -> None:
        """
        Args:
            discard: gets what is done after the contest was closed.
        """
        self._work = work
        self._discard = discard
        self._done: queue.SimpleQueue[tuple[T, BaseException | None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False

    def enter(self, entrant: T) -> None:
        """Begins with another one."""
        threading.Thread(target=self._run, args=(entrant,), name="replica-open", daemon=True).start()

    def wait(self, timeout_s: float | None) -> T | None:
        """The next that is done; None if it takes longer. What the work raised is raised here."""
        try:
            entrant, error = self._done.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if error is not None:
            raise error
        return entrant

    def close(self) -> None:
        """Whatever is done from now on is discarded."""
        with self._lock:
            self._is_closed = True
            while not self._done.empty():
                self._discard(self._done.get()[0])

    def _run(self, entrant: T) -> None:
        fault: BaseException | None = None
        try:
            self._work(entrant)
        except BaseException as error:  # noqa: BLE001 (for whoever waits)
            fault = error
        with self._lock:
            if not self._is_closed:
                self._done.put((entrant, fault))
                return
        self._discard(entrant)
