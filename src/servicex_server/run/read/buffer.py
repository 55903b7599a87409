"""Memory that is there already for the next who needs as much: fresh pages cost time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

KEPT_BYTES = 64 * 1024 * 1024
"""A larger buffer is given back as soon as a smaller one does."""


class KeptBuffer:
    """One piece of memory, used again and again. For one thread."""

    def __init__(self) -> None:
        self._memory: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def room(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """At least so many bytes, which the next call may give to somebody else."""
        have = len(self._memory)
        if size_bytes > have or size_bytes <= KEPT_BYTES < have:
            self._memory = np.empty(size_bytes, np.uint8)
        return self._memory
