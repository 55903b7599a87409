"""The threads of a worker process: what one has at hand, such as its buffers, serves the next file too."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def threads(n_threads: int) -> ThreadPoolExecutor:
    """So many threads, the same for all who ask; for work that does not itself ask for them."""
    return _pool(n_threads, os.getpid())


def map_in_threads(work: Callable[[T], R], items: Sequence[T], n_threads: int) -> list[R]:
    """What the work gives for each item, in their order."""
    if n_threads == 1 or len(items) < 2:
        return list(map(work, items))
    return list(threads(n_threads).map(work, items))


@functools.lru_cache(maxsize=1)
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """So many threads of that process.

    Args:
        process: its id; a forked child has none of its parent's threads.
    """
    return ThreadPoolExecutor(n_threads, thread_name_prefix=f"work-{process}")
