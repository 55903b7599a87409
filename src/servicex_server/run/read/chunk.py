"""How a file's entries are split, so that memory is bounded by a chunk and not by the file. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

CHUNK_BYTES = 32 * 1024 * 1024
"""Uncompressed bytes of the columns read at once; evaluating takes a few times that."""


def entry_ranges(
    start: int,
    stop: int,
    *,
    boundaries: Sequence[int],
    bytes_per_entry: float,
    chunk_bytes: int = CHUNK_BYTES,
    share_bytes: float | None = None,
) -> Iterator[tuple[int, int]]:
    """Ranges that cover `[start, stop)`, ending on boundaries where one is near enough.

    A range ends at the last boundary within `chunk_bytes`. A stretch without one is split only where it
    is more than four times too large: splitting it means to decompress it again for each part.

    Args:
        share_bytes: put together less than that, so that there is something for each of several threads; but
            split nothing for its sake.

    >>> list(entry_ranges(0, 100, boundaries=[0, 30, 60, 90, 100], bytes_per_entry=1.0, chunk_bytes=65))
    [(0, 60), (60, 100)]
    >>> list(entry_ranges(0, 100, boundaries=[0, 30, 60, 90, 100], bytes_per_entry=1.0, share_bytes=35))
    [(0, 30), (30, 60), (60, 90), (90, 100)]
    """
    most = together = stop - start
    if bytes_per_entry > 0:
        most = max(1, int(min(most, chunk_bytes / bytes_per_entry)))
        together = most if share_bytes is None else max(1, int(min(most, share_bytes / bytes_per_entry)))
    edges = [*sorted({edge for edge in boundaries if start < edge < stop}), stop]
    position = start
    while position < stop:
        number = bisect.bisect_right(edges, position + together)
        if number and edges[number - 1] > position:
            end = edges[number - 1]
        else:
            end = min(edges[number], position + 4 * most)
        yield position, end
        position = end
