"""What was worked out for an object, for the next who brings the same object."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

MOST_PLANS = 64
"""How many plans, outputs or the like a worker remembers something of: more than it works on at once."""

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by the identity of their keys, for the keys that were used last. For any number of threads.

    By identity, because to compare plans, or to hash them, takes as long as what is remembered saves.

    Args:
        most: how many keys.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # The key is kept beside its value: while it lives, no other object has its id.
        self._values: OrderedDict[int, tuple[K, V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """What was put for this very object."""
        with self._lock:
            found = self._values.get(id(key))
            if found is None:
                return None
            self._values.move_to_end(id(key))
            return found[1]

    def put(self, key: K, value: V) -> V:
        """Remembers the value, and returns it."""
        with self._lock:
            self._values[id(key)] = key, value
            self._values.move_to_end(id(key))
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value
