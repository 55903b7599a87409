"""What a script may use."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds on one run of a script.

    Attributes:
        memory_bytes: private memory of its process; as much may go into its result.
        time_s: wall time, the start of Python included.
        file_time_s: wall time for all there is to do about one file, fetching it included.
        input_bytes: largest remote file that is fetched for it.
        tmp_bytes: what it may write to its private `/tmp`, which lives in memory.
        n_threads: threads of its process.
        n_descriptors: files it may have open at once.
    """

    memory_bytes: int = 2 * 2**30
    time_s: float = 900.0
    input_bytes: int = 10 * 2**30
    tmp_bytes: int = 256 * 2**20
    n_threads: int = 256
    n_descriptors: int = 256
    file_time_s: float = math.inf

    @property
    def fetch_time_s(self) -> float:
        """Of the time for a file, what fetching it may take: what the code does not need, or else half."""
        return max(self.file_time_s - self.time_s, self.file_time_s / 2)


def show_bytes(n_bytes: int) -> str:
    """A size for people.

    >>> show_bytes(3 * 2**29)
    '1.5 GiB'
    """
    unit, size = ("GiB", 2**30) if n_bytes >= 2**30 else ("MiB", 2**20)
    return f"{n_bytes / size:.4g} {unit}"
