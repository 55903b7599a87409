"""Where lists begin, for readers, filters and writers. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


def offsets_of(counts: npt.NDArray[np.integer | np.bool_]) -> Integers:
    """Where each list begins, and the last ends, if lists of these lengths follow each other.

    >>> offsets_of(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    offsets = np.zeros(len(counts) + 1, np.int64)
    # Converted in place, and then added up: a sum over another type goes through small buffers.
    offsets[1:] = counts
    np.cumsum(offsets[1:], out=offsets[1:])
    return offsets
