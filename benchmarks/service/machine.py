"""What processes take: CPU time, and memory by role over a while."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

_EVERY_S = 0.5


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes (not their children) have taken so far."""
    return sum(times.user + times.system for times in (psutil.Process(pid).cpu_times() for pid in pids))


def role(process: psutil.Process) -> str:
    """What a process of a server's tree is, as its module says."""
    words = process.cmdline()
    module = next((word for word in words if word.startswith("servicex_server.")), "app")
    parent = process.parent()
    if module.endswith(".nursery"):
        return "workers" if parent is not None and module in parent.cmdline() else "worker nursery"
    return "worker parent" if module.endswith(".run") or "worker" in words else "app"


def memory_mb(pids: Iterable[int]) -> dict[str, float]:
    """Proportional set size of these trees by role: shared pages count once over the tree."""
    by_role: defaultdict[str, float] = defaultdict(float)
    for pid in pids:
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                by_role[role(process)] += getattr(memory, "pss", memory.rss) / 1e6
    return dict(by_role)


@dataclass
class Memory:
    """What was seen over a while, by role: one number each half second."""

    seen: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def look(self, pids: Iterable[int]) -> None:
        for name, megabytes in memory_mb(pids).items():
            self.seen[name].append(megabytes)

    def first_middle_last(self) -> Mapping[str, tuple[float, float, float]]:
        """Largest of the first, the middle and the last third: one that leaks grows from each to the next."""
        thirds = {}
        for name, values in self.seen.items():
            third = max(1, len(values) // 3)
            thirds[name] = (
                max(values[:third]),
                max(values[third : 2 * third] or values),
                max(values[-third:]),
            )
        return thirds


@contextmanager
def watch_memory(pids: Callable[[], Iterable[int]]) -> Iterator[Memory]:
    """Looks at the memory of these trees while the context lasts."""
    memory = Memory()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            memory.look(pids())
            stop.wait(_EVERY_S)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield memory
    finally:
        stop.set()
        watching.join()


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Tells how many seconds the context has lasted."""
    started_s = time.perf_counter()
    yield lambda: time.perf_counter() - started_s
