"""Bonds between a process and the one that started it. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
from pathlib import Path

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process (SIGKILL) when its parent goes, even if it hangs in C code.

    Ends the process at once if the parent has gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        logger.warning("process.unbound: the kernel refused to bind this process to its parent")
    if os.getppid() != parent_pid:
        os._exit(0)


def bound_memory(limit_bytes: int) -> None:
    """Bounds the memory a process may allocate: above it allocations fail instead of the machine swapping.

    RLIMIT_DATA counts private writable memory (since Linux 4.7); the address space would also count files
    that are mapped to be read, however little of them is touched.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def volunteer_for_oom_killer() -> None:
    """Out of memory, the kernel is to take a process that can be replaced: this one, not the server."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
