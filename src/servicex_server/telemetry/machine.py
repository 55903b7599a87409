"""What the machine offers to this process."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may run on (respects affinity masks of batch systems)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
