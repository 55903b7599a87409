"""What a process remembers of the sites that it reads from: sick ones are asked last for a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

HALF_LIFE_S = 120.0
"""A fault counts half after this time."""
_SICK = 0.5
_SLOW_S = 5.0
"""A site that takes longer to open a file, by what was seen of it lately, is no better than a sick one."""
_MOST_SITES = 512

T = TypeVar("T")


@dataclass(slots=True)
class _Site:
    faults: float = 0.0
    open_s: float = 0.0
    seen: float = 0.0


class SiteHealth:
    """Recent faults and times to open, by host. For any number of threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._lock = threading.Lock()

    def succeeded(self, host: str, open_s: float) -> None:
        """A file was opened there; what was bad before counts less."""
        with self._lock:
            site = self._decayed(host)
            site.faults /= 2
            site.open_s = open_s if not site.open_s else (site.open_s + open_s) / 2

    def failed(self, host: str) -> None:
        """The site did not answer, or broke off."""
        with self._lock:
            self._decayed(host).faults += 1.0

    def is_sick(self, host: str) -> bool:
        """Whether others should be asked first."""
        with self._lock:
            if host not in self._sites:
                return False
            site = self._decayed(host)
            return site.faults >= _SICK or site.open_s > _SLOW_S

    def sorted(self, places: Sequence[T], host_of: Callable[[T], str]) -> list[T]:
        """The places as they come, those at sick sites at the end: never excluded."""
        return sorted(places, key=lambda place: self.is_sick(host_of(place)))

    def _decayed(self, host: str) -> _Site:
        now = self._clock()
        site = self._sites.setdefault(host, _Site(seen=now))
        self._sites.move_to_end(host)
        if len(self._sites) > _MOST_SITES:
            self._sites.popitem(last=False)
        fading = 0.5 ** ((now - site.seen) / HALF_LIFE_S)
        site.faults *= fading
        site.open_s *= fading
        site.seen = now
        return site


sites = SiteHealth()
"""Of this process."""
