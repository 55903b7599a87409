"""How fast units end, to know how many must lie ready so that no worker waits for the leader."""

from __future__ import annotations

import math


class Pace:
    """Completions per second, of about the last second.

    Args:
        ahead_s: seconds of work to keep ready.
        most: bound on it, in units.
    """

    def __init__(self, *, ahead_s: float = 0.25, most: int = 300) -> None:
        self._ahead_s = ahead_s
        self._most = most
        self._per_s = 0.0
        self._updated_s = 0.0

    def ended(self, now_s: float) -> None:
        """One more has ended."""
        self._per_s = self._decayed(now_s) + 1.0
        self._updated_s = now_s

    def ahead(self, now_s: float) -> int:
        """How many units to keep ready beyond one per slot; at least one, to save a slot a round trip."""
        return max(1, min(self._most, math.ceil(self._decayed(now_s) * self._ahead_s)))

    def _decayed(self, now_s: float) -> float:
        return self._per_s * math.exp(-max(0.0, now_s - self._updated_s))
